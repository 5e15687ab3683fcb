// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
	"github.com/vmlet/vmlet/tests/harness"
)

// putOn puts a text on a disk of the guest, for good; read reads it, past what the guest has in its memory.
func (s snapshotted) putOn(serial, text string) {
	s.t.Helper()
	s.Exec("sh", "-c", "d=$("+guestDisk(serial)+"); echo "+text+" >/dev/$d && sync")
}

func (s snapshotted) read(serial string) string {
	s.t.Helper()
	return s.Exec("sh", "-c", "d=$("+guestDisk(serial)+"); echo 3 >/proc/sys/vm/drop_caches; head -n 1 /dev/$d")
}

// writeBoth writes to the root disk and to the data disk "data".
func (s snapshotted) writeBoth(text string) {
	s.t.Helper()
	s.write(text)
	s.putOn("data", text)
}

func (s snapshotted) holdBoth(text string) {
	s.t.Helper()
	s.holds(text)
	if got := s.read("data"); got != text {
		s.t.Errorf("the data disk has %q, want %q", got, text)
	}
}

// onlyWithData is only for a VM that has a data disk of ours: one file is left of it.
func (s snapshotted) onlyWithData() {
	s.t.Helper()
	s.only()
	s.node.Eventually(time.Minute, func() error {
		var data []string
		for _, name := range s.node.SandboxFiles(s.SandboxID) {
			if strings.HasPrefix(name, "data-") {
				data = append(data, name)
			}
		}
		if len(data) != 1 {
			return fmt.Errorf("the sandbox holds %v, of one disk", data)
		}
		return nil
	})
}

func (s snapshotted) attachData(name string, size int64) error {
	_, err := s.node.VMs.AttachDisk(s.ctx(), &vmletv1.AttachDiskRequest{Vm: s.SandboxID, Name: name, Source: &vmletv1.AttachDiskRequest_SizeBytes{SizeBytes: size}})
	return err
}

func (s snapshotted) mustAttachData(name string, size int64) {
	s.t.Helper()
	if err := s.attachData(name, size); err != nil {
		s.t.Fatal(err)
	}
}

func (s snapshotted) detachData(name string, remove bool) error {
	_, err := s.node.VMs.DetachDisk(s.ctx(), &vmletv1.DetachDiskRequest{Vm: s.SandboxID, Name: name, Delete: remove})
	return err
}

func (s snapshotted) refused(err error, says string) {
	s.t.Helper()
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(status.Convert(err).Message(), says) {
		s.t.Errorf("got %v, want FailedPrecondition with %q", err, says)
	}
}

// inIt holds what a snapshot tells of its disks against what it should.
func (s snapshotted) inIt(snap *vmletv1.Snapshot, want string) {
	s.t.Helper()
	var has []string
	for _, d := range snap.GetDataDisks() {
		has = append(has, fmt.Sprintf("%s of %d MiB", d.GetName(), d.GetSizeBytes()/mib))
	}
	if got := fmt.Sprintf("%s without %s", strings.Join(has, " "), strings.Join(snap.GetLeftOut(), " ")); got != want {
		s.t.Errorf("snapshot %s has %q, want %q", snap.GetName(), got, want)
	}
}

// TestSnapshotsOfDataDisks: the data disks that vmlet keeps are taken with the root disk, and come back with it, at the size that they
// had; what is attached by path is left out, and said to be. Nothing is left of them in the end.
func TestSnapshotsOfDataDisks(t *testing.T) {
	w := newDiskWorld(t)
	s := snapshotted{w.pod, t, w.node}
	w.attach(bySize("data", 64*mib))
	w.attach(byPath("raw", w.file("raw", mib), vmletv1.DiskFormat_DISK_FORMAT_RAW))
	s.writeBoth("one")
	s.putOn("raw", "one")
	_, err := s.take("memory", true)
	s.refused(err, "(raw: a caller's file or device never is)")
	s.inIt(s.mustTake("disk", false), "data of 64 MiB without raw")
	s.writeBoth("two")
	s.putOn("raw", "two")
	s.mustRestore("disk")
	s.holdBoth("one")
	if got := s.read("raw"); got != "two" {
		t.Errorf("a caller's file has %q", got)
	}
	w.detach("raw", false)

	s.writeBoth("two")
	s.inIt(s.mustTake("memory", true), "data of 64 MiB without ")
	boot := s.BootID()
	s.writeBoth("three")
	w.resize("data", 96*mib, false)
	w.attach(bySize("later", 2*mib))
	s.putOn("later", "kept")
	s.refused(s.detachData("data", true), "snapshots have its content (disk, memory)")
	s.mustRestore("memory")
	s.holdBoth("two")
	if now := s.BootID(); now != boot {
		t.Errorf("boot %s, was %s", now, boot)
	}
	if _, size := w.seen("data"); size != 64*mib {
		t.Errorf("the guest sees %d bytes of what it had", size)
	}
	if got := s.read("later"); got != "kept" {
		t.Errorf("a disk that was attached since has %q", got)
	}
	w.detach("later", true)

	w.node.Kill9()
	w.node.Start()
	harness.RestartLibvirtd(t)
	w.node.Eventually(time.Minute, func() error { return s.restore("disk") })
	s.holdBoth("one")
	w.detach("data", false)
	s.refused(s.restore("disk"), `disk "data" of the snapshot was detached since; attach it again first`)
	w.attach(bySize("data", 64*mib))
	s.holdBoth("one")
	s.writeBoth("four")
	s.mustRestore("memory")
	s.holdBoth("two")

	w.pausedWith(s)
	w.withoutAGuest(s)
	folder := filepath.Dir(w.disk("root").GetLayers()[0].GetPath())
	s.mustTake("left", true)
	s.mustTake("over", false)
	s.Remove()
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the sandbox's folder: %v, with %v", err, s.node.SandboxFiles(s.SandboxID))
	}
}

// pausedWith takes a snapshot of a VM that is paused, and deletes those that there are while the guest runs.
func (w *diskWorld) pausedWith(s snapshotted) {
	s.writeBoth("paused")
	if _, err := s.node.VMs.Pause(s.ctx(), &vmletv1.PauseRequest{Vm: s.SandboxID}); err != nil {
		w.t.Fatal(err)
	}
	s.inIt(s.mustTake("paused", true), "data of 64 MiB without ")
	if _, err := s.node.VMs.Resume(s.ctx(), &vmletv1.ResumeRequest{Vm: s.SandboxID}); err != nil {
		w.t.Fatal(err)
	}
	s.mustRemove("disk")
	s.writeBoth("five")
	s.mustRestore("paused")
	s.holdBoth("paused")
	s.writeBoth("five")
	s.mustRemove("memory")
	s.mustRemove("paused")
	s.holdBoth("five")
	s.onlyWithData()
	if n := len(w.disk("data").GetLayers()); n != 1 {
		w.t.Errorf("%d layers are under the data disk", n-1)
	}
	// What libvirt thinks of the disks and what is on record must be the same for the QEMU after this one.
	if _, err := reboot(w.t.Context(), s.node, s.SandboxID, vmletv1.RebootMode_REBOOT_MODE_ACPI); err != nil {
		w.t.Fatal(err)
	}
	s.holdBoth("five")
}

// withoutAGuest takes, restores and deletes snapshots of a VM that is off.
func (w *diskWorld) withoutAGuest(s snapshotted) {
	stop(w.t, s.node, s.ContainerID, 30)
	s.inIt(s.mustTake("off", false), "data of 64 MiB without ")
	s.Create()
	s.Start()
	s.WaitReady()
	s.writeBoth("six")
	s.inIt(s.mustTake("on", false), "data of 64 MiB without ")
	stop(w.t, s.node, s.ContainerID, 30)
	s.mustRestore("off")
	s.mustRemove("on")
	s.Create()
	s.mustRemove("off")
	s.Start()
	s.WaitReady()
	s.holdBoth("five")
	s.onlyWithData()
}
