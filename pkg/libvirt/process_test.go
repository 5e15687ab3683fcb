// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

const testID = "0123456789abcdef0123456789abcdef"

// fakeProc is a procfs: pid -> executable and arguments.
type fakeProc map[string]fakeProcess

type fakeProcess struct {
	exe  string
	args []string
}

func (p fakeProc) write(t *testing.T) (root string) {
	t.Helper()
	root = t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "uptime"), []byte("1 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for pid, process := range p {
		dir := filepath.Join(root, pid)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		cmdline := strings.Join(process.args, "\x00") + "\x00"
		if err := os.WriteFile(filepath.Join(dir, "cmdline"), []byte(cmdline), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(process.exe, filepath.Join(dir, "exe")); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func qemuArgs(id string) []string {
	return []string{
		"/usr/bin/qemu-system-x86_64", "-name", "guest=" + vm.DomainName(id) + ",debug-threads=on", "-S",
		"-uuid", vm.UUIDFromID(id), "-msg", "timestamp=on",
	}
}

const qemuBinary = "/usr/bin/qemu-system-x86_64"

func TestQEMUIsFoundByItsArguments(t *testing.T) {
	other := strings.Repeat("f", 32)
	root := fakeProc{
		"1":   {"/sbin/init", []string{"init"}},
		"7":   {"none", nil}, // a kernel thread
		"100": {qemuBinary, qemuArgs(other)},
		"101": {qemuBinary, qemuArgs(testID)},
		"102": {"/usr/bin/grep", []string{"grep", "--", "-uuid", vm.UUIDFromID(testID)}},
		"103": {"/bin/sh", qemuArgs(testID)},
		"104": {qemuBinary, []string{qemuBinary, "-uuid", vm.UUIDFromID(testID), "-name", "guest=other"}},
		"105": {qemuBinary, []string{qemuBinary, "-name", "guest=" + vm.DomainName(testID), "-uuid"}},
	}.write(t)
	if pid, err := findQEMU(root, testID); err != nil || pid != 101 {
		t.Errorf("found %d, %v; want 101", pid, err)
	}
}

func TestWithoutQEMUTheDomainIsNotActive(t *testing.T) {
	root := fakeProc{"100": {qemuBinary, qemuArgs(strings.Repeat("f", 32))}}.write(t)
	if pid, err := findQEMU(root, testID); !errors.Is(err, errNotActive) {
		t.Errorf("found %d, %v; want that it is not active", pid, err)
	}
}

func TestProcessThatPassesForAnotherQEMUIsRefused(t *testing.T) {
	root := fakeProc{"100": {qemuBinary, qemuArgs(testID)}, "101": {qemuBinary, qemuArgs(testID)}}.write(t)
	pid, err := findQEMU(root, testID)
	if !errors.Is(err, errdefs.ErrFailedPrecondition) || errors.Is(err, errNotActive) {
		t.Errorf("found %d, %v; want FailedPrecondition, but not for inactivity", pid, err)
	}
}

// A process may end between the listing and the reading of its files.
func TestProcessThatHasJustEndedIsPassedOver(t *testing.T) {
	root := fakeProc{"100": {qemuBinary, qemuArgs(testID)}, "101": {qemuBinary, qemuArgs(testID)}}.write(t)
	if err := os.Remove(filepath.Join(root, "101", "cmdline")); err != nil {
		t.Fatal(err)
	}
	if pid, err := findQEMU(root, testID); err != nil || pid != 100 {
		t.Errorf("found %d, %v; want 100", pid, err)
	}
	if err := os.Remove(filepath.Join(root, "100", "exe")); err != nil {
		t.Fatal(err)
	}
	if pid, err := findQEMU(root, testID); !errors.Is(err, errNotActive) {
		t.Errorf("found %d, %v; want that it is not active", pid, err)
	}
}
