// SPDX-License-Identifier: Apache-2.0

//go:build integration

package libvirt

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

func needOwnLibvirtd(t *testing.T) {
	t.Helper()
	if rig.dir == "" {
		t.Skip("VMLET_TEST_LIBVIRT_URI names a libvirtd that is not ours to end")
	}
}

// daemon runs a command of build/libvirtd.sh.
func daemon(t *testing.T, command string) {
	t.Helper()
	if out, err := libvirtd(command); err != nil {
		t.Fatalf("libvirtd %s: %s", command, out)
	}
}

func TestEventsComeBackWithARestartedLibvirtd(t *testing.T) {
	needOwnLibvirtd(t)
	for _, end := range []string{"restart", "kill"} {
		t.Run(end, func(t *testing.T) {
			h := newHypervisor(t, testOwner)
			seen := record(t, h)
			g := newGuest(t, h, seen)
			g.boot()
			pid := g.pid()
			daemon(t, end)
			if end == "kill" {
				if err := h.Ready(testContext(t)); !errors.Is(err, errdefs.ErrUnavailable) {
					t.Errorf("without libvirtd: %v, want Unavailable", err)
				}
				daemon(t, "start")
			}
			seen.wait(t, "", vm.EventReconnected)
			g.must(h.Ready(testContext(t)))
			if again := g.pid(); again != pid {
				t.Errorf("QEMU was process %d and is %d", pid, again)
			}
			d, err := h.Domain(testContext(t), g.id)
			if err != nil || d.State != vm.DomainRunning {
				t.Errorf("domain %+v, %v", d, err)
			}
			g.must(syscall.Kill(pid, syscall.SIGKILL))
			seen.wait(t, g.id, vm.EventStopped)
		})
	}
	nothingIsLeft(t)
}

func TestEndWithoutLibvirtdIsSeenAfterwards(t *testing.T) {
	needOwnLibvirtd(t)
	h := newHypervisor(t, testOwner)
	seen := record(t, h)
	g := newGuest(t, h, seen)
	g.boot()
	pid := g.pid()
	daemon(t, "kill")
	since := time.Now()
	g.must(syscall.Kill(pid, syscall.SIGKILL))
	daemon(t, "start")
	seen.wait(t, "", vm.EventReconnected)
	d, err := h.Domain(testContext(t), g.id)
	if err != nil || d.State != vm.DomainShutoff {
		t.Errorf("domain %+v, %v; want it shut off", d, err)
	}
	last, err := h.LastShutdown(testContext(t), g.id)
	t.Logf("state %q, events %q, log %+v, %v, %s later", d.Reason, seen.story(g.id, since), last, err, last.At.Sub(since))
}

func TestStoppedLibvirtdIsNotReady(t *testing.T) {
	needOwnLibvirtd(t)
	h := newHypervisor(t, testOwner)
	text, err := os.ReadFile(filepath.Join(rig.dir, "libvirtd.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			t.Error(err)
		}
	}()
	began := time.Now()
	if err := h.Ready(testContext(t)); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("got %v, want Unavailable", err)
	}
	if took := time.Since(began); took > readyTimeout+500*time.Millisecond {
		t.Errorf("Ready took %s", took)
	}
}

func TestCapabilitiesOfTheHost(t *testing.T) {
	needOwnLibvirtd(t)
	h := newHypervisor(t, testOwner)
	versions, err := h.Versions(testContext(t))
	if err != nil || strings.HasPrefix(versions.Libvirt, "0.") || strings.HasPrefix(versions.QEMU, "0.") {
		t.Errorf("versions %+v, %v", versions, err)
	}
	accel, why, err := h.Accelerator(testContext(t), "auto")
	if err != nil || why == "" {
		t.Errorf("accelerator %v, %q, %v", accel, why, err)
	}
	t.Logf("%+v, %s: %s", versions, accel, why)
	account, err := h.qemuAccount(testContext(t))
	if err != nil || account.uid == 0 {
		t.Errorf("QEMU's account %+v, %v; want what build/libvirtd.sh has written", account, err)
	}
}

// nothingIsLeft fails the test if libvirtd keeps anything of domains that were removed.
func nothingIsLeft(t *testing.T) {
	t.Helper()
	if rig.dir == "" {
		return
	}
	err := filepath.WalkDir(rig.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if strings.Contains(filepath.Base(path), "vmlet-") {
			t.Errorf("left is %s", path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
