// SPDX-License-Identifier: Apache-2.0

package online

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sysfs makes files with what they hold, and returns how to read them.
func sysfs(t *testing.T, files map[string]string) (root string, is func(name string) string) {
	t.Helper()
	root = t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, "devices/system", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root, func(name string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(root, "devices/system", name))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}
}

func TestWhatIsOfflineIsTakenIntoUse(t *testing.T) {
	root, is := sysfs(t, map[string]string{
		"cpu/cpu1/online": "0\n", "cpu/cpu2/online": "1\n", "memory/auto_online_blocks": "offline\n",
		"memory/memory8/state": "offline\n", "memory/memory9/state": "online\n",
	})
	New(root, func(err error) { t.Error(err) }).All()
	for name, want := range map[string]string{
		"cpu/cpu1/online": "1", "cpu/cpu2/online": "1", "memory/auto_online_blocks": policy,
		"memory/memory8/state": policy, "memory/memory9/state": "online",
	} {
		if got := is(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestAPolicyOfTheGuestsOwnStays(t *testing.T) {
	root, is := sysfs(t, map[string]string{"memory/auto_online_blocks": "online\n"})
	New(root, func(err error) { t.Error(err) }).All()
	if got := is("memory/auto_online_blocks"); got != "online" {
		t.Errorf("it is %q", got)
	}
}

func TestACPUThatIsPlugged(t *testing.T) {
	root, is := sysfs(t, map[string]string{"cpu/cpu1/online": "0\n", "cpu/cpu2/online": "0\n", "node/node1/online": "0\n"})
	o := New(root, func(err error) { t.Error(err) })
	o.event([]byte("remove@/devices/system/cpu/cpu2\x00ACTION=remove\x00DEVPATH=/devices/system/cpu/cpu2\x00SUBSYSTEM=cpu\x00"))
	o.event([]byte("add@/devices/system/node/node1\x00ACTION=add\x00DEVPATH=/devices/system/node/node1\x00SUBSYSTEM=node\x00"))
	o.event([]byte("add@/devices/system/cpu/cpu1\x00ACTION=add\x00DEVPATH=/devices/system/cpu/cpu1\x00SUBSYSTEM=cpu\x00SEQNUM=9\x00"))
	for name, want := range map[string]string{"cpu/cpu1/online": "1", "cpu/cpu2/online": "0", "node/node1/online": "0"} {
		if got := is(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestTheKernelCanBeHeard(t *testing.T) {
	events, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	if err := events.Close(); err != nil {
		t.Error(err)
	}
}
