// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// volumes are the mounts that kubelet brings to a pod, on the host.
type volumes struct {
	hosts, termination, config, data, readonly, link string
}

func makeVolumes(t *testing.T) volumes {
	t.Helper()
	dir := t.TempDir()
	v := volumes{
		hosts: filepath.Join(dir, "etc-hosts"), termination: filepath.Join(dir, "termination"), config: filepath.Join(dir, "config"),
		data: filepath.Join(dir, "data"), readonly: filepath.Join(dir, "readonly"), link: filepath.Join(dir, "link"),
	}
	writeFile(t, v.hosts, "127.0.0.1\tlocalhost\n10.1.2.3\tfriend\n")
	writeFile(t, v.termination, "")
	for _, d := range []string{v.config, v.data, v.readonly} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	atomicWrite(t, v.config, map[string]string{"key": "one", "other": "same"})
	writeFile(t, filepath.Join(v.data, "from-host"), "hello guest")
	writeFile(t, filepath.Join(v.readonly, "fixed"), "fixed")
	if err := os.Symlink(v.data, v.link); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v volumes) mounts() []*runtimeapi.Mount {
	return []*runtimeapi.Mount{
		{ContainerPath: "/etc/hosts", HostPath: v.hosts},
		{ContainerPath: "/dev/termination-log", HostPath: v.termination},
		{ContainerPath: "/etc/config", HostPath: v.config, Readonly: true},
		{ContainerPath: "/data", HostPath: v.data},
		{ContainerPath: "/srv/readonly", HostPath: v.readonly, Readonly: true},
		{ContainerPath: "/srv/by-link", HostPath: v.link},
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// atomicWrite replaces the files of a ConfigMap's folder at once, as kubelet's atomic
// writer does: a new folder, and the link ..data renamed over.
func atomicWrite(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	fresh, err := os.MkdirTemp(dir, "..2026_") //nolint:usetesting // in that very folder
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(fresh, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		writeFile(t, filepath.Join(fresh, name), text)
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
	old, err := os.Readlink(filepath.Join(dir, "..data"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	tmp := filepath.Join(dir, "..data_tmp")
	if err := os.Symlink(filepath.Base(fresh), tmp); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	if old != "" {
		if err := os.RemoveAll(filepath.Join(dir, old)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMountsOfAPod: what kubelet mounts is in the guest where containers have it, kept in
// step in the directions that it is meant to be.
func TestMountsOfAPod(t *testing.T) {
	v := makeVolumes(t)
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{
		Name: "mounts", Command: []string{"sh", "-c", "mkfifo /tmp/end; echo up; read -r code </tmp/end; echo 'last message' >/dev/termination-log; exit $code"},
		Container: func(c *runtimeapi.ContainerConfig) {
			c.Mounts = v.mounts()
			c.Annotations = map[string]string{"io.kubernetes.container.terminationMessagePath": "/dev/termination-log"}
		},
	})
	pod.WaitLog("up")
	for name, test := range map[string]func(*testing.T, *harness.Node, *harness.Running, volumes){
		"files":     testMountedFiles,
		"ConfigMap": testConfigMapSwap,
		"data":      testDataFolder,
		"read-only": testReadOnlyFolder,
	} {
		t.Run(name, func(t *testing.T) { test(t, node, pod, v) })
	}
	pod.Exec("sh", "-c", "echo 4 >/tmp/end")
	if st := pod.WaitExited(); st.GetExitCode() != 4 {
		t.Errorf("exit %d %s (%s)", st.GetExitCode(), st.GetReason(), st.GetMessage())
	}
	got, err := os.ReadFile(v.termination)
	if err != nil || string(got) != "last message\n" {
		t.Errorf("the termination log on the host: %q, %v", got, err)
	}
}

func testMountedFiles(t *testing.T, node *harness.Node, pod *harness.Running, v volumes) {
	if got := pod.Exec("cat", "/etc/hosts"); !strings.Contains(got, "friend") {
		t.Errorf("/etc/hosts: %q", got)
	}
	writeFile(t, v.hosts, "127.0.0.1\tlocalhost\n10.1.2.4\tneighbour\n")
	within2s(t, node, func() error { return hasText(pod.Exec("cat", "/etc/hosts"), "neighbour") })
	pod.Exec("sh", "-c", "echo 'from the guest' >/dev/termination-log")
	within2s(t, node, func() error {
		b, err := os.ReadFile(v.termination)
		if err != nil {
			return err
		}
		return hasText(string(b), "from the guest")
	})
}

// testConfigMapSwap: the new files appear within 2 s of kubelet's swap, all at once: no
// reader ever sees a mixture.
func testConfigMapSwap(t *testing.T, node *harness.Node, pod *harness.Running, v volumes) {
	if got := pod.Exec("sh", "-c", "cd /etc/config; cat key other; readlink key; readlink ..data"); !strings.HasPrefix(got, "onesame..data/key\n..2026_") {
		t.Errorf("the folder: %q", got)
	}
	atomicWrite(t, v.config, map[string]string{"key": "two", "other": "new"})
	within2s(t, node, func() error { return hasText(pod.Exec("sh", "-c", "cd /etc/config/..data; cat key other"), "twonew") })
	atomicWrite(t, v.config, map[string]string{"key": "0", "other": "0"})
	within2s(t, node, func() error { return hasText(pod.Exec("cat", "/etc/config/key"), "0") })
	// A reader in the guest, for as long as swaps go on: what it reads is of one piece. (What
	// it has opened may be removed meanwhile, as on any node.)
	reader := make(chan string, 1)
	go func() {
		out, err := pod.TryExec(t.Context(), "sh", "-c", `i=0; while [ $i -lt 60 ]; do i=$((i+1))
cd /etc/config/..data || echo gone; a=$(cat key 2>/dev/null) && b=$(cat other 2>/dev/null) && [ "$a" != "$b" ] && echo "$a with $b"; done; echo end`)
		reader <- fmt.Sprint(out, err)
	}()
	for i := range 8 {
		time.Sleep(200 * time.Millisecond) // kubelet is not faster either
		same := strconv.Itoa(i + 1)
		atomicWrite(t, v.config, map[string]string{"key": same, "other": same})
	}
	if got := <-reader; got != "end<nil>" {
		t.Errorf("files of two swaps were seen together, or none: %s", got)
	}
	within2s(t, node, func() error { return hasText(pod.Exec("cat", "/etc/config/key"), "8") })
	if _, err := pod.TryExec(t.Context(), "sh", "-c", "echo x >/etc/config/new"); err == nil {
		t.Error("a read-only ConfigMap was written to")
	}
}

func testDataFolder(t *testing.T, _ *harness.Node, pod *harness.Running, v volumes) {
	if got := pod.Exec("cat", "/data/from-host", "/srv/by-link/from-host"); got != "hello guesthello guest" {
		t.Errorf("/data and by the link: %q", got)
	}
	pod.Exec("sh", "-c", "echo 'hello host' >/data/from-guest && mkdir -p /data/a/b && mv /data/from-guest /data/a/b/")
	got, err := os.ReadFile(filepath.Join(v.data, "a/b/from-guest"))
	if diff := cmp.Diff("hello host\n", string(got)); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	writeFile(t, filepath.Join(v.data, "later"), "later")
	if got := pod.Exec("cat", "/data/later"); got != "later" {
		t.Errorf("a file of the host's: %q", got)
	}
}

// testReadOnlyFolder: root in the guest may mount what it likes, the host's files stay.
func testReadOnlyFolder(t *testing.T, _ *harness.Node, pod *harness.Running, v volumes) {
	if got := pod.Exec("cat", "/srv/readonly/fixed"); got != "fixed" {
		t.Errorf("/srv/readonly/fixed: %q", got)
	}
	for _, script := range []string{
		"echo x >/srv/readonly/new", "echo x >/srv/readonly/fixed", "rm /srv/readonly/fixed", "chmod 777 /srv/readonly/fixed",
		"mount -o remount,rw /srv/readonly && echo x >/srv/readonly/new", "mkdir -p /tmp/v && mount -t virtiofs vmlet /tmp/v && rm -r /tmp/v/*/fixed",
	} {
		if out, err := pod.TryExec(t.Context(), "sh", "-c", script); err == nil {
			t.Errorf("%q worked: %s", script, out)
		}
	}
	entries, err := os.ReadDir(v.readonly)
	if err != nil || len(entries) != 1 {
		t.Errorf("the read-only folder now holds %v, %v", entries, err)
	}
}

// within2s is how soon a change is to be on the other side.
func within2s(t *testing.T, node *harness.Node, check func() error) {
	t.Helper()
	begin := time.Now()
	node.Eventually(10*time.Second, check)
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("it took %s, longer than 2 s", took)
	}
}

func hasText(got, want string) error {
	if !strings.Contains(got, want) {
		return fmt.Errorf("no %q in %q", want, got)
	}
	return nil
}
