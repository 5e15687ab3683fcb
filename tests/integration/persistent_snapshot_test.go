// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
	"github.com/vmlet/vmlet/tests/harness"
)

// keeper is a pod that has a persistent disk with snapshots, in one sandbox after the other, on a node that can be killed at
// a failpoint.
type keeper struct {
	snapshotted

	kill, record string
	attempt      uint32
}

const keepersDisk = "pod/test/uid-keeps/vm"

// next runs the pod's next sandbox.
func (k *keeper) next() {
	k.t.Helper()
	k.Running = k.node.Run(harness.Pod{Name: "keeps", Attempt: k.attempt, Annotations: persistentDisk})
	k.attempt++
	k.WaitReady()
}

func (k *keeper) disk() *vmletv1.Disk {
	k.t.Helper()
	disks := k.node.ListDisks()
	if len(disks) != 1 || disks[0].GetName() != keepersDisk {
		k.t.Fatalf("disks %v", disks)
	}
	return disks[0]
}

// onDisk lists the files in the disk's folder.
func (k *keeper) onDisk() (names []string) {
	k.t.Helper()
	entries, err := os.ReadDir(filepath.Dir(k.disk().GetPath()))
	if err != nil {
		k.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// hasFiles waits until as many files are left in the disk's folder, all of which are told of.
func (k *keeper) hasFiles(want int) {
	k.t.Helper()
	k.node.Eventually(time.Minute, func() error {
		files, told := k.onDisk(), k.disk().GetLayers()
		if len(files) != want || len(told) != want+1 {
			return fmt.Errorf("files %v, told of %v, want %d", files, told, want)
		}
		return nil
	})
}

// memories are the files with a guest's memory in the sandbox's folder.
func (k *keeper) memories() (names []string) {
	k.t.Helper()
	for _, name := range k.node.SandboxFiles(k.SandboxID) {
		if strings.HasPrefix(name, "memory-") {
			names = append(names, name)
		}
	}
	return names
}

// killedAt has vmlet killed when call comes to a mark, and runs its next life.
func (k *keeper) killedAt(mark string, pass int, call func() error) {
	k.t.Helper()
	k.node.Stop()
	k.node.Start()
	if err := os.WriteFile(k.kill, fmt.Appendf(nil, "%s %d", mark, pass), 0o600); err != nil {
		k.t.Fatal(err)
	}
	if err := call(); err == nil {
		k.t.Fatalf("failpoint %s, pass %d, was never reached", mark, pass)
	}
	<-k.node.Exited()
	if err := os.Remove(k.kill); err != nil && !os.IsNotExist(err) {
		k.t.Fatal(err)
	}
	k.node.Stop() // forgets the dead process
	k.node.Start()
}

// killedAtEachWrite has vmlet killed after each write of a record that call makes. The call is made again then.
func (k *keeper) killedAtEachWrite(name string, call func() error, before, after func()) {
	k.t.Helper()
	before()
	so := len(lines(k.t, k.record))
	if err := call(); err != nil {
		k.t.Fatal(name, err)
	}
	marks := lines(k.t, k.record)[so:]
	after()
	k.t.Log(name, marks)
	seen := map[string]int{}
	for _, mark := range marks {
		if !strings.HasPrefix(mark, "store/") || !strings.HasSuffix(mark, "/after") {
			continue
		}
		if name == "restore" && strings.HasPrefix(mark, "store/layer-") {
			continue // that is done behind the call
		}
		seen[mark]++
		before()
		k.killedAt(mark, seen[mark], call)
		err := call()
		if code := status.Code(err); err != nil && code != codes.AlreadyExists && code != codes.NotFound {
			k.t.Fatalf("%s, killed at %s: again: %v", name, mark, err)
		}
		after()
	}
	if len(seen) < 3 {
		k.t.Errorf("%s writes only %v", name, seen)
	}
}

// TestSnapshotsOfAPersistentDisk: they are the disk's. They come back as any other, stay with it through sandboxes, kills and
// a reboot of the host, but for memory, and give their room back.
func TestSnapshotsOfAPersistentDisk(t *testing.T) {
	k := &keeper{kill: filepath.Join(t.TempDir(), "kill"), record: filepath.Join(t.TempDir(), "record")}
	k.t, k.node = t, harness.StartNode(t, harness.WithEnv("VMLET_FAILPOINT_KILL="+k.kill))
	k.next()
	k.write("one")
	k.mustTake("disk", false)
	k.write("two")
	boot := k.BootID()
	k.mustTake("memory", true)
	k.write("three")
	k.mustRestore("memory")
	k.holds("two")
	if now := k.BootID(); now != boot {
		t.Errorf("boot %s, was %s", now, boot)
	}
	k.hasFiles(3)
	if blocks := harness.Virsh(t, "domblklist", k.DomainName()); !strings.Contains(blocks, k.disk().GetPath()) {
		t.Errorf("the machine has %s, and the disk is %s", blocks, k.disk().GetPath())
	}
	if len(k.memories()) != 1 {
		t.Errorf("the sandbox has %v", k.node.SandboxFiles(k.SandboxID))
	}

	// A stop that is cut short is finished, and leaves the disk to the next.
	k.killedAt("store/snapshot-memory-given-up/before", 1, func() error {
		_, err := k.node.StopPodSandbox(t.Context(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: k.SandboxID})
		return err
	})
	if d := k.disk(); d.GetHolder() != nil || len(d.GetSnapshots()) != 2 || d.GetSnapshots()[0].GetPodSandboxId() != "" {
		t.Errorf("the disk is told as %v", d)
	}
	if memories := k.memories(); len(memories) > 0 {
		t.Errorf("left are %v", memories)
	}
	if _, err := k.node.VMs.ListSnapshots(k.ctx(), &vmletv1.ListSnapshotsRequest{Vm: k.SandboxID}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("snapshots of a pod that was stopped: %v", err)
	}
	k.Remove()
	if out := runAsUser(t, k.node, t.TempDir(), "vmletctl disk ls"); !strings.Contains(plain(out), " 2 TIME -") {
		t.Errorf("vmletctl disk ls:\n%s", out)
	} else {
		t.Log(out)
	}
	image := &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: harness.TinyImage()}}
	if _, err := k.node.Images.RemoveImage(t.Context(), image); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("its image can be removed: %v", err)
	}

	k.next()
	k.holds("two")
	if out := runAsUser(t, k.node, t.TempDir(), "vmletctl snapshot ls test/keeps"); !strings.Contains(plain(out), "memory yes disk crash SIZE - - gone TIME") {
		t.Errorf("vmletctl snapshot ls:\n%s", out)
	} else {
		t.Log(out)
	}
	if names := k.names(); !slices.Equal(names, []string{"disk", "memory"}) {
		t.Errorf("snapshots %v", names)
	}
	if err := k.restore("memory"); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "--disk-only") {
		t.Errorf("memory of another sandbox: %v", err)
	}
	t.Log(runAsUser(t, k.node, t.TempDir(), "vmletctl snapshot restore test/keeps memory"))
	k.write("four")
	t.Log(runAsUser(t, k.node, t.TempDir(), "vmletctl snapshot restore --disk-only test/keeps memory"))
	k.holds("two")
	k.hasFiles(3)

	k.node.Stop()
	k.node.StartNotServing("VMLET_FAILPOINT_RECORD=" + k.record)
	k.node.WaitServing(time.Minute)
	nothing := func() {}
	take := func() error { _, err := k.take("new", false); return err }
	k.killedAtEachWrite("take", take, nothing, func() { k.mustRemove("new") })
	k.holds("two")
	k.mustOff(pullPlug, true)
	k.node.Stop()
	k.node.StartNotServing("VMLET_FAILPOINT_RECORD=" + k.record)
	k.node.WaitServing(time.Minute)
	k.killedAtEachWrite("delete", func() error { return k.remove("new") }, func() { _, _ = k.take("new", false) }, nothing) //nolint:errcheck // it may be there still
	k.node.Stop()
	k.node.StartNotServing("VMLET_FAILPOINT_RECORD=" + k.record)
	k.node.WaitServing(time.Minute)
	k.killedAtEachWrite("restore", func() error { return k.restore("disk") }, func() { k.hasFiles(3) }, func() { k.hasFiles(3) })
	k.on(false)

	rebootHost(t, k.node, k.Running)
	k.Remove()
	k.next()
	k.holds("one")
	if names := k.names(); !slices.Equal(names, []string{"disk", "memory"}) {
		t.Errorf("snapshots %v after a reboot of the host", names)
	}
	k.mustRemove("disk")
	k.mustRemove("memory")
	k.hasFiles(1)
	k.mustTake("last", true)
	k.holds("one")
	folder := filepath.Dir(k.disk().GetPath())
	k.Remove()
	k.node.RemoveDisk(keepersDisk)
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("the folder of the disk is left: %v", err)
	}
}
