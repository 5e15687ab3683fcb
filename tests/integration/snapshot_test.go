// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
	"github.com/vmlet/vmlet/tests/harness"
)

// snapshotted is a VM that snapshots are taken of.
type snapshotted struct {
	*harness.Running

	t    *testing.T
	node *harness.Node
}

func (s snapshotted) ctx() context.Context {
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	s.t.Cleanup(cancel)
	return ctx
}

func (s snapshotted) take(name string, memory bool) (*vmletv1.Snapshot, error) {
	resp, err := s.node.VMs.CreateSnapshot(s.ctx(), &vmletv1.CreateSnapshotRequest{Vm: s.SandboxID, Name: name, Memory: memory})
	return resp.GetSnapshot(), err
}

func (s snapshotted) mustTake(name string, memory bool) *vmletv1.Snapshot {
	s.t.Helper()
	snap, err := s.take(name, memory)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Logf("%s: %s, paused %d ms, memory %d KiB", name, snap.GetConsistency(), snap.GetPauseMs(), snap.GetMemoryBytes()>>10)
	return snap
}

func (s snapshotted) restore(name string) error {
	_, err := s.node.VMs.RestoreSnapshot(s.ctx(), &vmletv1.RestoreSnapshotRequest{Vm: s.SandboxID, Name: name})
	return err
}

func (s snapshotted) mustRestore(name string) {
	s.t.Helper()
	if err := s.restore(name); err != nil {
		s.t.Fatal(err)
	}
}

func (s snapshotted) remove(name string) error {
	_, err := s.node.VMs.DeleteSnapshot(s.ctx(), &vmletv1.DeleteSnapshotRequest{Vm: s.SandboxID, Name: name})
	return err
}

func (s snapshotted) mustRemove(name string) {
	s.t.Helper()
	if err := s.remove(name); err != nil {

		s.t.Fatal(err)
	}
}

func (s snapshotted) names() (names []string) {
	s.t.Helper()
	resp, err := s.node.VMs.ListSnapshots(s.ctx(), &vmletv1.ListSnapshotsRequest{Vm: s.SandboxID})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, snap := range resp.GetSnapshots() {
		names = append(names, snap.GetName())
	}
	return names
}

// write puts a text on the guest's disk, for good.
func (s snapshotted) write(text string) {
	s.t.Helper()
	s.Exec("sh", "-c", "echo "+text+" >/data && sync")
}

func (s snapshotted) holds(text string) {
	s.t.Helper()
	if got := s.Exec("cat", "/data"); got != text {
		s.t.Errorf("the disk has %q, want %q", got, text)
	}
}

// count is how far the guest has counted in its memory.
func (s snapshotted) count() int {
	s.t.Helper()
	n, err := strconv.Atoi(s.Exec("cat", "/run/count"))
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// remember has the guest's memory hold a word, which memory that was taken before does not.
func (s snapshotted) remember(word string) {
	s.t.Helper()
	s.Exec("sh", "-c", "echo >/run/word-"+word)
}

// remembers proves that the guest's memory holds a word, or that it does not.
func (s snapshotted) remembers(word string, want bool) {
	s.t.Helper()
	if got := s.Exec("sh", "-c", "[ -e /run/word-"+word+" ] && echo true || echo false"); got != strconv.FormatBool(want) {
		s.t.Errorf("the guest's memory holds %q: %s", word, got)
	}
}

// counts proves that the guest counts on, from no less than it had counted to.
func (s snapshotted) counts(from int) {
	s.t.Helper()
	first := s.count()
	if first < from {
		s.t.Errorf("it has counted to %d, and had to %d before", first, from)
	}
	s.node.Eventually(time.Minute, func() error {
		if now := s.count(); now <= first {
			return fmt.Errorf("it counts no more: %d", now)
		}
		return nil
	})
}

// only waits until nothing but a disk is left of snapshots.
func (s snapshotted) only() {
	s.t.Helper()
	s.node.Eventually(time.Minute, func() error {
		var roots []string
		for _, name := range s.node.SandboxFiles(s.SandboxID) {
			if strings.HasPrefix(name, "root") || strings.HasPrefix(name, "memory") {
				roots = append(roots, name)
			}
		}
		if len(roots) != 1 {
			return fmt.Errorf("the sandbox holds %v", roots)
		}
		return nil
	})
}

func newSnapshotted(t *testing.T, node *harness.Node, name string) snapshotted {
	t.Helper()
	pod := node.Run(harness.Pod{Name: name})
	pod.WaitReady()
	return snapshotted{pod, t, node}
}

// TestSnapshotsOfAGuest: a disk comes back as it was, and memory too, in which the guest goes on counting where it was.
// The container runs throughout, at the same address.
func TestSnapshotsOfAGuest(t *testing.T) {
	node := harness.StartNode(t)
	s := newSnapshotted(t, node, "snapshots")
	started := s.Status().GetStartedAt()
	s.Exec("sh", "-c", countInMemory)
	s.write("one")
	s.mustTake("disk", false)
	s.write("two")
	boot := s.BootID()
	counted := s.count()
	s.remember("before")
	memory := s.mustTake("memory", true)
	if !memory.GetMemory() || memory.GetMemoryBytes() == 0 || memory.GetParent() != "disk" || !memory.GetCurrent() {
		t.Errorf("it is told as %v", memory)
	}
	s.remember("after")
	if now := s.BootID(); now != boot {
		t.Errorf("boot %s, was %s", now, boot)
	}
	s.write("three")
	if _, err := s.take("disk", false); status.Code(err) != codes.AlreadyExists {
		t.Errorf("a second one of the same name: %v", err)
	}
	if err := s.restore("nothing"); status.Code(err) != codes.NotFound {
		t.Errorf("restore of none: %v", err)
	}
	s.counts(counted)

	s.mustRestore("memory")
	s.remembers("before", true)
	s.remembers("after", false)
	s.counts(counted)
	if now := s.BootID(); now != boot {
		t.Errorf("boot %s, was %s", now, boot)
	}
	s.holds("two")

	s.mustRestore("disk")
	s.holds("one")
	if now := s.BootID(); now == boot {
		t.Error("the guest did not boot")
	}
	node.Kill9()
	node.Start()
	if names := s.names(); strings.Join(names, " ") != "disk memory" {
		t.Errorf("snapshots %v", names)
	}
	s.mustRestore("memory")
	s.holds("two")
	s.mustRemove("disk") // the layer below the one that the memory's is on
	s.write("four")
	s.mustRestore("memory")
	s.holds("two")
	if now := s.BootID(); now != boot {
		t.Errorf("boot %s, was %s", now, boot)
	}
	if st := s.Status(); st.GetState() != runtimeapi.ContainerState_CONTAINER_RUNNING || st.GetStartedAt() != started {
		t.Errorf("the container is %s, started at %d, was at %d", st.GetState(), st.GetStartedAt(), started)
	}
	// What libvirt thinks of the disk and what is on record must be the same for the QEMU after this one.
	s.write("five")
	if _, err := reboot(t.Context(), node, s.SandboxID, vmletv1.RebootMode_REBOOT_MODE_ACPI); err != nil {
		t.Fatal(err)
	}
	s.holds("five")
	s.mustRemove("memory")
	s.holds("five")
	s.only()

	stop(t, node, s.ContainerID, 30)
	s.mustTake("off", false)
	if _, err := s.take("memory", true); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("the memory of what is off: %v", err)
	}
	s.Create()
	s.Start()
	s.WaitBoots(1)
	s.write("six")
	stop(t, node, s.ContainerID, 30)
	s.mustRestore("off")
	s.Create()
	s.mustRemove("off") // between its creation and its start
	s.Start()
	s.WaitBoots(1)
	s.holds("five")
	s.only()
}

// TestAChainOfThirtySnapshots: they are deleted in any order, of a guest that runs, and what is left stays what it was.
func TestAChainOfThirtySnapshots(t *testing.T) {
	node := harness.StartNode(t)
	s := newSnapshotted(t, node, "chain")
	const all = 30
	for i := range all {
		s.write(strconv.Itoa(i))
		if _, err := s.take(fmt.Sprint("s", i), false); err != nil {
			t.Fatal(err)
		}
	}
	s.write("last")
	for i := range all {
		k := i * 7 % all // 7 and 30 have no common divisor
		if k != 13 && k != 22 {
			s.mustRemove(fmt.Sprint("s", k))
		}
	}
	s.holds("last")
	for _, k := range []int{22, 13} {
		s.mustRestore(fmt.Sprint("s", k))
		s.holds(strconv.Itoa(k))
	}
	s.mustRemove("s22")
	s.mustRemove("s13")
	s.holds("13")
	s.only()
}

// TestKilledAtEveryStepOfASnapshot: vmlet is killed at each failpoint that taking, restoring and deleting a snapshot
// passes. Its next life finishes what was begun, or undoes it; the call can be repeated, and the root disk and a data disk are what they were.
func TestKilledAtEveryStepOfASnapshot(t *testing.T) {
	k := newKiller(t)
	node := harness.StartNode(t, k.watched())
	k.node = node
	s := newSnapshotted(t, node, "killed")
	s.mustAttachData("data", 8*mib)
	s.writeBoth("kept")
	s.mustTake("kept", true)
	k.survives(s.Running, []killedCall{
		{"take", func() { s.writeBoth("now") }, func() error { _, err := s.take("new", true); return err }, func() { s.holdBoth("now"); s.mustRemove("new") }},
		{"restore", func() { s.writeBoth("gone") }, func() error { return s.restore("kept") }, func() { s.holdBoth("kept") }},
		{"delete", func() { s.writeBoth("now"); s.mustTake("new", true); s.writeBoth("later") }, func() error { return s.remove("new") }, func() { s.holdBoth("later") }},
	})
	s.mustRemove("kept")
	s.onlyWithData()
}
