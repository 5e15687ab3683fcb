// SPDX-License-Identifier: Apache-2.0

//go:build integration

package libvirt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// newSharingGuest is a booted guest with a share that it has mounted at /mnt.
func newSharingGuest(t *testing.T, h *Hypervisor, seen *recorder) *guest {
	t.Helper()
	g := newGuest(t, h, seen)
	g.Share = filepath.Join(g.dir, "shares", g.id)
	g.must(os.MkdirAll(g.Share, 0o755))
	g.must(os.WriteFile(filepath.Join(g.Share, "file"), []byte("from-the-host\n"), 0o644))
	g.validate()
	g.must(h.Define(testContext(t), g.Machine))
	g.boot()
	g.sh("modprobe virtiofs; mount -t virtiofs vmlet /mnt && cat /mnt/file >/dev/ttyS0; echo guest >/mnt/answer; echo MOUNTED >/dev/ttyS0")
	g.console("from-the-host")
	g.console("MOUNTED")
	return g
}

func (g *guest) helpers() []int {
	g.t.Helper()
	pids, err := g.h.HelperPIDs(testContext(g.t), g.id)
	g.must(err)
	return pids
}

// killVirtiofsd ends the virtiofsd of a guest.
func (g *guest) killVirtiofsd() {
	g.t.Helper()
	pids := g.helpers()
	if len(pids) == 0 {
		g.t.Fatal("there is no virtiofsd")
	}
	g.must(syscall.Kill(pids[0], syscall.SIGKILL))
}

func TestShareIsServedAndPluggedAgainAfterVirtiofsdDied(t *testing.T) {
	h := newHypervisor(t, testOwner)
	seen := record(t, h)
	g := newSharingGuest(t, h, seen)
	if answer, err := os.ReadFile(filepath.Join(g.Share, "answer")); string(answer) != "guest\n" {
		t.Errorf("the guest wrote %q, %v", answer, err)
	}
	if pids := g.helpers(); len(pids) != 2 {
		t.Errorf("virtiofsd is processes %v, want two", pids)
	}
	g.must(h.ReplugShare(testContext(t), g.id)) // it runs: nothing is done
	for _, text := range []string{"after-one-death", "after-two-deaths"} {
		since := time.Now()
		g.killVirtiofsd()
		lost := seen.wait(t, g.id, vm.EventShareLost)
		began := time.Now()
		g.must(h.ReplugShare(testContext(t), g.id))
		t.Logf("told after %s, plugged again in %s", lost.At.Sub(since), time.Since(began))
		g.must(os.WriteFile(filepath.Join(g.Share, "file"), []byte(text+"\n"), 0o644))
		g.sh("umount -l /mnt; until mount -t virtiofs vmlet /mnt; do sleep 0.1; done; cat /mnt/file >/dev/ttyS0")
		g.console(text)
	}
	g.must(h.Destroy(testContext(t), g.id))
	if story := seen.story(g.id, time.Now().Add(-patience)); strings.Count(story, "ShareLost") != 2 {
		t.Errorf("events %q; want two losses", story)
	}
	nothingIsLeftOfShares(t, g)
}

// A share that is unplugged on purpose leaves nothing that serves it, and one that is plugged at once is watched.
func TestShareIsUnpluggedAndPluggedAgain(t *testing.T) {
	h := newHypervisor(t, testOwner)
	seen := record(t, h)
	g := newSharingGuest(t, h, seen)
	for i := range 3 {
		g.sh(fmt.Sprintf("umount /mnt && echo AWAY%d >/dev/ttyS0", i))
		g.console(fmt.Sprint("AWAY", i))
		for range 2 {
			g.must(h.UnplugShare(testContext(t), g.id))
		}
		if pids := g.helpers(); len(pids) > 0 {
			t.Errorf("virtiofsd is processes %v", pids)
		}
		g.must(h.ReplugShare(testContext(t), g.id))
		g.sh(fmt.Sprintf("until mount -t virtiofs vmlet /mnt; do sleep 0.1; done; echo BACK%d >/dev/ttyS0", i))
		g.console(fmt.Sprint("BACK", i))
	}
	seen.wait(t, g.id, vm.EventShareLost)
	seen.wait(t, g.id, vm.EventShareLost)
	seen.wait(t, g.id, vm.EventShareLost)
	g.killVirtiofsd()
	seen.wait(t, g.id, vm.EventShareLost)
	g.must(h.Destroy(testContext(t), g.id))
	nothingIsLeftOfShares(t, g)
}

// A process that waits for the dead virtiofsd keeps the guest from letting go.
func TestShareThatIsInUseWhenVirtiofsdDiesIsToldOf(t *testing.T) {
	h := newHypervisor(t, testOwner)
	seen := record(t, h)
	g := newSharingGuest(t, h, seen)
	g.killVirtiofsd()
	seen.wait(t, g.id, vm.EventShareLost)
	g.sh("echo HANGS >/dev/ttyS0; cat /mnt/new")
	g.console("HANGS")
	if err := h.ReplugShare(testContext(t), g.id); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("got %v, want FailedPrecondition", err)
	}
	g.must(h.Destroy(testContext(t), g.id))
	nothingIsLeftOfShares(t, g)
}

// The death is seen by a vmlet that was started after the guest, too, and across a
// libvirtd that was restarted.
func TestShareIsWatchedAfterARestart(t *testing.T) {
	needOwnLibvirtd(t)
	first := newHypervisor(t, testOwner)
	seen := record(t, first)
	g := newSharingGuest(t, first, seen)
	daemon(t, "restart")
	h := newHypervisor(t, testOwner)
	seen = record(t, h)
	g.h = h
	defer func() { g.h = first }() // which is open when the guest is removed
	g.killVirtiofsd()
	seen.wait(t, g.id, vm.EventShareLost)
	g.must(h.ReplugShare(testContext(t), g.id))
	g.sh("umount -l /mnt; until mount -t virtiofs vmlet /mnt; do sleep 0.1; done; echo AGAIN >/dev/ttyS0")
	g.console("AGAIN")
	g.must(h.Destroy(testContext(t), g.id))
	nothingIsLeftOfShares(t, g)
}

func nothingIsLeftOfShares(t *testing.T, g *guest) {
	t.Helper()
	g.must(g.h.Undefine(testContext(t), g.id))
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		pids, err := findVirtiofsd("/proc", g.id)
		g.must(err)
		if len(pids) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("virtiofsd is left: %v", pids)
			break
		}
	}
	sockets, err := filepath.Glob(filepath.Join(rig.work, "*", "share.sock"))
	if err != nil || len(sockets) > 0 {
		t.Errorf("sockets are left: %v, %v", sockets, err)
	}
	nothingIsLeft(t)
}
