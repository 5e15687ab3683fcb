// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"libvirt.org/go/libvirtxml"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
	"github.com/vmlet/vmlet/tests/harness"
)

// layerTree is what should be under a root disk.
type layerTree struct {
	layers []*layerNode
	// top is what the disk is on, nil for the image.
	top *layerNode
}

// layerNode is one file of it; below is nil for the image.
type layerNode struct {
	below  *layerNode
	needed bool
}

// snapshot makes the disk a layer, and puts a new disk on it.
func (l *layerTree) snapshot() *layerNode {
	l.top = &layerNode{below: l.top, needed: true}
	l.layers = append(l.layers, l.top)
	return l.top
}

// restore puts a new disk on a layer.
func (l *layerTree) restore(on *layerNode) {
	l.top = on
	l.tidy()
}

// forget is a layer whose snapshot is gone.
func (l *layerTree) forget(n *layerNode) {
	n.needed = false
	l.tidy()
}

// tidy takes away what is there for nothing: what no snapshot needs goes if nothing is on it, and is merged if one thing is.
func (l *layerTree) tidy() {
	for {
		i := slices.IndexFunc(l.layers, func(n *layerNode) bool { return !n.needed && l.onto(n) < 2 })
		if i < 0 {
			return
		}
		gone := l.layers[i]
		l.layers = slices.Delete(l.layers, i, i+1)
		for _, n := range l.layers {
			if n.below == gone {
				n.below = gone.below
			}
		}
		if l.top == gone {
			l.top = gone.below
		}
	}
}

// onto counts what is right on a layer.
func (l *layerTree) onto(n *layerNode) (count int) {
	for _, other := range l.layers {
		if other.below == n {
			count++
		}
	}
	if l.top == n {
		count++
	}
	return count
}

// depth is how many layers are under the disk, above the image.
func (l *layerTree) depth() (n int) {
	for at := l.top; at != nil; at = at.below {
		n++
	}
	return n
}

// check holds the VM against the model.
func (v *modelVM) check() {
	v.m.t.Helper()
	want := runtimeapi.ContainerState_CONTAINER_RUNNING
	if v.state == vmOff {
		want = runtimeapi.ContainerState_CONTAINER_EXITED
	}
	if st := v.pod.Status(); st.GetState() != want {
		v.m.fatalf("%s is %s, and its container %s: %s", v.name, v.state, st.GetState(), st.GetMessage())
	}
	v.checkRecords()
	v.checkFiles()
	if v.state == vmOn {
		v.checkGuest()
		v.checkAddresses()
		v.checkSize()
	}
}

// checkRecords holds what vmlet tells.
func (v *modelVM) checkRecords() {
	v.m.t.Helper()
	ctx := v.m.t.Context()
	snaps, err := v.m.node.VMs.ListSnapshots(ctx, &vmletv1.ListSnapshotsRequest{Vm: v.pod.SandboxID})
	if err != nil {
		v.m.fatalf("list the snapshots of %s: %v", v.name, err)
	}
	var names []string
	for _, snap := range snaps.GetSnapshots() {
		if snap.GetState() != vmletv1.SnapshotState_SNAPSHOT_STATE_DELETING {
			names = append(names, snap.GetName())
		}
	}
	if slices.Sort(names); !slices.Equal(names, v.names()) {
		v.m.fatalf("%s has the snapshots %v, want %v", v.name, names, v.names())
	}
	nics, err := v.m.node.VMs.ListNICs(ctx, &vmletv1.ListNICsRequest{Vm: v.pod.SandboxID})
	if err != nil {
		v.m.fatalf("list the NICs of %s: %v", v.name, err)
	}
	names = nil
	for _, nic := range nics.GetNics() {
		if !nic.GetPrimary() {
			names = append(names, nic.GetName())
		}
	}
	if slices.Sort(names); !slices.Equal(names, sortedKeys(v.nics)) {
		v.m.fatalf("%s has the NICs %v, want %v", v.name, names, sortedKeys(v.nics))
	}
}

// checkFiles holds the files of the sandbox, and what QEMU has open.
func (v *modelVM) checkFiles() {
	v.m.t.Helper()
	memories := 0
	for _, snap := range v.snaps {
		if snap.memory {
			memories++
		}
	}
	ofDisks := len(v.disks)
	for _, d := range v.disks {
		ofDisks += len(d.layers.layers)
	}
	want := fmt.Sprintf("%d layers with the disk, %d memories, %d data disks with their layers", len(v.layers.layers)+1, memories, ofDisks)
	v.m.node.Eventually(time.Minute, func() error { // layers are tidied behind calls
		roots, saved, data := 0, 0, 0
		for _, name := range v.m.node.SandboxFiles(v.pod.SandboxID) {
			switch {
			case strings.HasPrefix(name, "root-"):
				roots++
			case strings.HasPrefix(name, "memory-"):
				saved++
			case strings.HasPrefix(name, "data-"):
				data++
			}
		}
		if got := fmt.Sprintf("%d layers with the disk, %d memories, %d data disks with their layers", roots, saved, data); got != want {
			return fmt.Errorf("step %d: %s has %s, want %s: %v", len(v.m.trail), v.name, got, want, v.m.node.SandboxFiles(v.pod.SandboxID))
		}
		if v.state.down() {
			return nil
		}
		return v.checkChain()
	})
}

// checkChain compares what libvirt has under the disks with what vmlet tells.
func (v *modelVM) checkChain() error {
	var dom libvirtxml.Domain
	if err := dom.Unmarshal(harness.Virsh(v.m.t, "dumpxml", v.pod.DomainName())); err != nil {
		return err
	}
	live := map[string][]string{}
	for _, disk := range dom.Devices.Disks {
		files := []string{disk.Source.File.File}
		for at := disk.BackingStore; at != nil && at.Source != nil && at.Source.File != nil; at = at.BackingStore {
			files = append(files, at.Source.File.File)
		}
		live[disk.Serial] = files
	}
	if has := live["root"]; len(has) != v.layers.depth()+2 { // with the disk, and the image
		return fmt.Errorf("step %d: %s is on %d layers: %v, want %d", len(v.m.trail), v.name, len(has)-2, has, v.layers.depth())
	}
	for _, name := range v.attachedDisks() {
		if has := live[name]; len(has) != v.disks[name].layers.depth()+1 {
			return fmt.Errorf("step %d: disk %s of %s is on %v, want %d layers", len(v.m.trail), name, v.name, has, v.disks[name].layers.depth())
		}
	}
	resp, err := v.m.node.VMs.ListVMDisks(v.m.t.Context(), &vmletv1.ListVMDisksRequest{Vm: v.pod.SandboxID})
	if err != nil {
		return err
	}
	for _, disk := range resp.GetDisks() {
		var told []string
		for _, layer := range disk.GetLayers() {
			told = append(told, layer.GetPath())
		}
		if has := live[disk.GetSerial()]; has != nil && !slices.Equal(told, has) {
			return fmt.Errorf("step %d: disk %s of %s has the chain %v, and vmlet tells %v", len(v.m.trail), disk.GetName(), v.name, has, told)
		}
	}
	return nil
}

// look prints all that the model knows of a guest. What it has of disks in its memory it forgets first: that may be older than the disk.
const look = `echo 3 >/proc/sys/vm/drop_caches
echo "boot $(cat /proc/sys/kernel/random/boot_id)"
echo "memory $(cat /run/model 2>/dev/null)"
echo "cpus $(nproc)"
echo "total $(awk '/^MemTotal:/ { print $2 }' /proc/meminfo)"
for f in /model/*; do [ -e $f ] && echo "file ${f##*/} $(cat $f)"; done
for d in /sys/block/vd*; do s=$(cat $d/serial); case $s in data*) echo "disk $s $(cat $d/size) $(head -c 32 /dev/${d##*/} | tr -d '\0')";; esac; done
for n in /sys/class/net/eth*; do n=${n##*/}; echo "nic $n $(cat /sys/class/net/$n/address) $(ip -4 -o addr show dev $n | awk '{ print $4 }')"; done`

// checkGuest holds what the guest sees.
func (v *modelVM) checkGuest() {
	v.m.t.Helper()
	v.m.node.Eventually(2*time.Minute, func() error {
		out, err := v.pod.TryExec(v.m.t.Context(), "sh", "-c", look)
		if err != nil {
			return err
		}
		got := map[string]bool{}
		boot, total := "", ""
		for line := range strings.Lines(out) {
			line = strings.TrimSpace(line)
			switch what, value, _ := strings.Cut(line, " "); {
			case what == "boot":
				boot = value
			case what == "total":
				total = value
			case line != "memory":
				got[line] = true
			}
		}
		if v.boot != "" && boot != v.boot || v.boot == "" && boot == v.wasBoot {
			return fmt.Errorf("step %d: %s is in boot %s, want %q, was in %q", len(v.m.trail), v.name, boot, v.boot, v.wasBoot)
		}
		if want := v.seen(); !maps.Equal(got, want) {
			return fmt.Errorf("step %d: the guest of %s has\n%v, want\n%v", len(v.m.trail), v.name, sortedKeys(got), sortedKeys(want))
		}
		v.boot = boot
		return v.rightTotal(total)
	})
}

// seen is what the guest should see.
func (v *modelVM) seen() map[string]bool {
	want := map[string]bool{}
	add := func(words ...any) { want[strings.TrimSpace(fmt.Sprintln(words...))] = true }
	add("cpus", v.size.cpus)
	if v.memory != "" {
		add("memory", v.memory)
	}
	for name, text := range v.files {
		add("file", name, text)
	}
	for _, name := range v.attachedDisks() {
		add("disk", name, v.disks[name].size/512, v.disks[name].text)
	}
	for _, nic := range v.allNICs() {
		add("nic", nic.GetName(), nic.GetMac(), nic.GetIps()[0])
	}
	return want
}

// allNICs are the pod's own, as vmlet tells it, and those that were attached.
func (v *modelVM) allNICs() (nics []*vmletv1.NIC) {
	v.m.t.Helper()
	resp, err := v.m.node.VMs.ListNICs(v.m.t.Context(), &vmletv1.ListNICsRequest{Vm: v.pod.SandboxID})
	if err != nil {
		v.m.fatalf("list the NICs of %s: %v", v.name, err)
	}
	for _, nic := range resp.GetNics() {
		if nic.GetPrimary() {
			nics = append(nics, nic)
		}
	}
	for _, name := range sortedKeys(v.nics) {
		nics = append(nics, v.nics[name])
	}
	return nics
}

// checkAddresses proves that the guest answers at each of its addresses.
func (v *modelVM) checkAddresses() {
	v.m.t.Helper()
	v.m.node.Eventually(time.Minute, func() error {
		if !pings(v.pod.IP) {
			return fmt.Errorf("step %d: %s does not answer at %s", len(v.m.trail), v.name, v.pod.IP)
		}
		for _, name := range sortedKeys(v.nics) {
			if ip, _, _ := strings.Cut(v.nics[name].GetIps()[0], "/"); !pings(ip) {
				return fmt.Errorf("step %d: %s does not answer at %s of %s", len(v.m.trail), v.name, ip, name)
			}
		}
		return nil
	})
}
