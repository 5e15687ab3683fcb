// SPDX-License-Identifier: Apache-2.0

//go:build integration

package libvirt

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"

	"github.com/vmlet/vmlet/pkg/vm"
)

// TestADiskThatADeadLibvirtdHasLeft: QEMU has its file open, or the device too, and libvirt knows nothing of it. Both are taken back,
// and the disk can be attached.
func TestADiskThatADeadLibvirtdHasLeft(t *testing.T) {
	h := newHypervisor(t, testOwner)
	g := newGuest(t, h, nil)
	g.start()
	ctx := testContext(t)
	for _, device := range []bool{false, true} {
		disk := vm.MachineDisk{Path: rawDisk(t), Format: vm.FormatRaw, Bus: vm.BusVirtio, ErrorPolicy: "report", Serial: "data", Target: "vdc"}
		// libvirt hands the file to QEMU's user.
		g.must(h.AttachDisk(ctx, g.id, disk))
		g.strandDisk(disk.Path, device)
		err := h.AttachDisk(ctx, g.id, disk)
		for deadline := time.Now().Add(patience); device && errdefs.IsUnavailable(err) && time.Now().Before(deadline); {
			g.must(h.Reset(ctx, g.id)) // grants what the guest was asked for
			err = h.AttachDisk(ctx, g.id, disk)
		}
		if err != nil {
			t.Fatalf("device: %v: attach what was left: %v", device, err)
		}
		live, err := h.LiveDisks(ctx, g.id)
		g.must(err)
		if last := live[len(live)-1]; last.Path != disk.Path || last.Target != "vdc" {
			t.Errorf("device: %v: the machine has %+v", device, live)
		}
		g.dropDisk("vdc")
	}
}

// dropDisk unplugs a disk, by resets.
func (g *guest) dropDisk(target string) {
	g.t.Helper()
	ctx := testContext(g.t)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(300 * time.Millisecond) {
		live, err := g.h.LiveDisks(ctx, g.id)
		g.must(err)
		if live[len(live)-1].Target != target {
			g.must(g.h.ForgetDisk(ctx, g.id, target))
			return
		}
		g.must(g.h.UnplugDisk(ctx, g.id, target))
		g.must(g.h.Reset(ctx, g.id))
	}
	g.t.Fatalf("%s is not unplugged", target)
}

// strandDisk has QEMU have what libvirt forgets: the disk is unplugged, and plugged again as libvirt would do it next, but not by it.
func (g *guest) strandDisk(path string, device bool) {
	g.t.Helper()
	number := g.nodeOf(path)
	g.dropDisk("vdc")
	g.must(os.Chmod(path, 0o666)) // libvirt has taken it from QEMU's user
	storage, format := fmt.Sprintf("libvirt-%d-storage", number+1), fmt.Sprintf("libvirt-%d-format", number+1)
	g.withMonitor(func(dom *virt.Domain) {
		g.monitor(dom, nil, "blockdev-add", map[string]any{"driver": "file", "filename": path, "node-name": storage, "read-only": false})
		g.monitor(dom, nil, "blockdev-add", map[string]any{"driver": "raw", "file": storage, "node-name": format, "read-only": false})
		if device {
			g.monitor(dom, nil, "device_add", map[string]any{
				"driver": "virtio-blk-pci", "drive": format, "id": "virtio-disk2", "bus": g.freePort(dom), "addr": "0x0", "serial": "data",
			})
		}
	})
}

// TestAFileOfASnapshotThatADeadLibvirtdHasLeft: libvirt names the file of the next one as it had named that.
func TestAFileOfASnapshotThatADeadLibvirtdHasLeft(t *testing.T) {
	h := newHypervisor(t, testOwner)
	g := newGuest(t, h, nil)
	g.start()
	ctx := testContext(t)
	root := g.Disks[0].Path
	one := g.overlay("one.qcow2", root)
	g.must(h.Snapshot(ctx, g.id, vm.Snapshotting{Disks: []vm.Switch{{Disk: root, Next: one}}}))
	number := g.nodeOf(one)
	g.withMonitor(func(dom *virt.Domain) {
		storage, format := fmt.Sprintf("libvirt-%d-storage", number+1), fmt.Sprintf("libvirt-%d-format", number+1)
		left := g.overlay("left.qcow2", one)
		g.monitor(dom, nil, "blockdev-add", map[string]any{"driver": "file", "filename": left, "node-name": storage})
		g.monitor(dom, nil, "blockdev-add", map[string]any{"driver": "qcow2", "file": storage, "node-name": format, "backing": nil})
	})
	two := g.overlay("two.qcow2", one)
	g.must(h.Snapshot(ctx, g.id, vm.Snapshotting{Disks: []vm.Switch{{Disk: one, Next: two}}}))
	if chains, err := h.Chains(ctx, g.id); err != nil || chains[0][0] != two || chains[0][1] != one {
		t.Errorf("the machine has %v, %v", chains, err)
	}
}

// TestASwitchThatADeadLibvirtdDoesNotKnowOf: QEMU writes to the new file of a snapshot, and libvirt died before it took note. What the
// guest has written since is in the old file then, which libvirt tells of, and the snapshot can be taken.
func TestASwitchThatADeadLibvirtdDoesNotKnowOf(t *testing.T) {
	h := newHypervisor(t, testOwner)
	g := newGuest(t, h, nil)
	g.start()
	ctx := testContext(t)
	root := g.Disks[0].Path
	one := g.overlay("one.qcow2", root)
	g.must(h.Snapshot(ctx, g.id, vm.Snapshotting{Disks: []vm.Switch{{Disk: root, Next: one}}}))
	number, lost := g.nodeOf(one), g.overlay("lost.qcow2", one)
	storage, format := fmt.Sprintf("libvirt-%d-storage", number+1), fmt.Sprintf("libvirt-%d-format", number+1)
	g.withMonitor(func(dom *virt.Domain) {
		g.monitor(dom, nil, "blockdev-add", map[string]any{"driver": "file", "filename": lost, "node-name": storage})
		g.monitor(dom, nil, "blockdev-add", map[string]any{"driver": "qcow2", "file": storage, "node-name": format, "backing": nil})
		g.monitor(dom, nil, "blockdev-snapshot", map[string]any{"node": fmt.Sprintf("libvirt-%d-format", number), "overlay": format})
	})
	device := g.used().Device
	g.must(os.Remove(lost)) // as who believed libvirt did
	g.qemuIO(device, "write -P 0x5a 67108864 65536")
	if chains, err := h.Chains(ctx, g.id); err != nil || chains[0][0] != one {
		t.Fatalf("the machine has %v, %v", chains, err)
	}
	if file := g.used().Inserted.File; file != one {
		t.Errorf("QEMU writes to %s", file)
	}
	g.qemuIO(device, "flush")
	if out, err := exec.CommandContext(ctx, "qemu-io", "-r", "-U", "-f", "qcow2", "-c", "read -P 0x5a 67108864 65536", one).CombinedOutput(); err != nil || strings.Contains(string(out), "failed") {
		t.Errorf("what was written since is not in the old file: %v: %s", err, out)
	}
	g.must(h.Snapshot(ctx, g.id, vm.Snapshotting{Disks: []vm.Switch{{Disk: one, Next: g.overlay("two.qcow2", one)}}}))
}

// used is what QEMU's first disk uses.
func (g *guest) used() usedNode {
	g.t.Helper()
	var used []usedNode
	g.withMonitor(func(dom *virt.Domain) { g.must(order(dom, "query-block", nil, &used)) })
	return used[0]
}

// qemuIO has QEMU do to a disk what its guest could. What comes of it, QEMU says on its standard output.
func (g *guest) qemuIO(device, what string) {
	g.t.Helper()
	g.withMonitor(func(dom *virt.Domain) {
		var refused string
		_, err := askMonitor(dom, "human-monitor-command", map[string]any{"command-line": fmt.Sprintf("qemu-io -d %s %q", device, what)}, &refused)
		g.must(err)
		if refused != "" {
			g.t.Fatalf("%s: %s", what, refused)
		}
	})
}

// overlay makes an empty layer over a file.
func (g *guest) overlay(name, below string) string {
	g.t.Helper()
	path := filepath.Join(g.dir, name)
	out, err := exec.Command("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", below, path, "256M").CombinedOutput()
	if err = errors.Join(err, os.Chmod(path, 0o666)); err != nil {
		g.t.Fatalf("%v: %s", err, out)
	}
	return path
}

// nodeOf is the number that libvirt has given to a file.
func (g *guest) nodeOf(path string) (number int) {
	g.t.Helper()
	var nodes []blockNode
	g.withMonitor(func(dom *virt.Domain) {
		_, err := askMonitor(dom, "query-named-block-nodes", map[string]any{"flat": true}, &nodes)
		g.must(err)
	})
	for _, n := range nodes {
		if _, err := fmt.Sscanf(n.Name, "libvirt-%d-storage", &number); err == nil && n.File == path {
			return number
		}
	}
	g.t.Fatalf("QEMU has %v", nodes)
	return 0
}
