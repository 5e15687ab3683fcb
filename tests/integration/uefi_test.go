// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
	"github.com/vmlet/vmlet/tests/harness"
)

// efivars is where a guest finds the variables of its UEFI. Ours have this GUID.
const (
	efivars     = "/sys/firmware/efi/efivars"
	variableIDs = "-5a1c9b1e-7a0e-4f6c-9b1d-3f2d1c0b9a87"
)

// uefi is what pods ask whose VMs boot by UEFI, with what else they ask.
func uefi(asks map[string]string) map[string]string {
	out := map[string]string{"vmlet.io/firmware": "efi", "vmlet.io/memory": "256Mi"}
	maps.Copy(out, asks)
	return out
}

// setVariable has the guest make a variable of its UEFI, which keeps it over a boot: 7 says so. efivarfs takes it in one write.
func setVariable(r *harness.Running, name string) {
	r.Exec("sh", "-c", `printf '\007\000\000\000mine' >`+efivars+"/"+name+variableIDs)
}

// variables names those that the guest has and can read.
func variables(r *harness.Running) string {
	return strings.ReplaceAll(r.Exec("sh", "-c", `test -d /sys/firmware/efi || { echo BIOS; exit; }
		cd `+efivars+` && for f in Vmlet*`+variableIDs+`; do [ ! -e "$f" ] || [ "$(tail -c 4 "$f")" != mine ] || echo "${f%%-*}"; done`), "\n", " ")
}

// guestOfUEFI is a VM that boots by UEFI, on a node where it can be checkpointed and vmlet killed.
type guestOfUEFI struct {
	snapshotted
}

func (g guestOfUEFI) has(want string) {
	g.t.Helper()
	if got := variables(g.Running); got != want {
		g.t.Errorf("its UEFI keeps %q, want %q", got, want)
	}
}

// files are the names of what the sandbox has of its root disk.
func (g guestOfUEFI) files() (names []string) {
	g.t.Helper()
	for _, name := range g.node.SandboxFiles(g.SandboxID) {
		if strings.HasPrefix(name, "root") || strings.HasPrefix(name, "memory") || strings.HasPrefix(name, "checkpoint") {
			names = append(names, name)
		}
	}
	return names
}

// alone waits until nothing but the disk, and what its UEFI keeps, is left.
func (g guestOfUEFI) alone() {
	g.t.Helper()
	g.node.Eventually(time.Minute, func() error {
		if names := g.files(); len(names) != 2 || strings.Count(strings.Join(names, " "), ".nvram") != 1 {
			return fmt.Errorf("the sandbox holds %v", names)
		}
		return nil
	})
}

// keepsInFile tells whether a variable is in the file that the next QEMU finds.
func (g guestOfUEFI) keepsInFile(name string) bool {
	g.t.Helper()
	xml := harness.Virsh(g.t, "dumpxml", "--inactive", g.DomainName())
	_, rest, _ := strings.Cut(xml, "<nvram")
	_, rest, _ = strings.Cut(rest, ">")
	path, _, found := strings.Cut(rest, "</nvram>")
	if !found {
		g.t.Fatalf("no NVRAM in %s", xml)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		g.t.Fatal(err)
	}
	var text []byte
	for _, c := range utf16.Encode([]rune(name)) {
		text = append(text, byte(c), byte(c>>8))
	}
	return bytes.Contains(file, text)
}

// TestGuestsBootByUEFI: what UEFI keeps lives as long as the root disk, and comes back with snapshots and checkpoints as it was.
func TestGuestsBootByUEFI(t *testing.T) {
	k := newKiller(t)
	k.every = 3 // TestKilledAtEveryStepOfASnapshot looks at each
	node := newCheckpointing(t, k.watched())
	k.node = node.Node
	pod := harness.Pod{Name: "efi", Annotations: uefi(nil)}
	g := guestOfUEFI{snapshotted{node.Run(pod), t, node.Node}}
	fresh := node.Run(harness.Pod{Name: "fresh", Annotations: uefi(freshDisk)})
	kept := node.Run(harness.Pod{Name: "kept", Annotations: uefi(persistentDisk)})
	for _, r := range []*harness.Running{g.Running, fresh, kept} {
		r.WaitReady()
		if got := variables(r); got != "" {
			t.Errorf("a new guest's UEFI keeps %q", got)
		}
		setVariable(r, "VmletOne")
	}

	// A disk of its own for each container, one of the sandbox, and one of no sandbox.
	stop(t, node.Node, fresh.ContainerID, 0)
	stop(t, node.Node, g.ContainerID, 0)
	kept.Remove()
	for _, r := range []*harness.Running{fresh, g.Running} {
		r.Create()
		r.Start()
	}
	kept = node.Run(harness.Pod{Name: "kept", Attempt: 1, Annotations: uefi(persistentDisk)})
	for r, want := range map[*harness.Running]string{g.Running: "VmletOne", fresh: "", kept: "VmletOne"} {
		r.WaitReady()
		if got := variables(r); got != want {
			t.Errorf("%s: once more its UEFI keeps %q, want %q", r.Config.GetMetadata().GetName(), got, want)
		}
	}
	fresh.Remove()
	kept.Remove()
	if disks := node.ListDisks(); len(disks) != 1 {
		t.Fatalf("disks %v", disks)
	} else if names, err := os.ReadDir(filepath.Dir(disks[0].GetPath())); err != nil || len(names) != 2 {
		t.Errorf("of the persistent disk there are %v, %v", names, err)
	}
	node.RemoveDisk("pod/test/uid-kept/vm")

	g.snapshots(k)
	g.checkpoints(node, pod)
}

// snapshots takes a snapshot of the disk and one with memory, and puts the guest back to each; vmlet is killed on the way.
func (g guestOfUEFI) snapshots(k *killer) {
	g.t.Helper()
	g.mustTake("disk", false)
	setVariable(g.Running, "VmletTwo")
	boot := g.BootID()
	g.mustTake("memory", true)
	setVariable(g.Running, "VmletXXX")
	g.has("VmletOne VmletTwo VmletXXX")
	g.mustRestore("memory")
	g.has("VmletOne VmletTwo")
	if now := g.BootID(); now != boot {
		g.t.Errorf("boot %s, was %s", now, boot)
	}
	if !g.keepsInFile("VmletTwo") || g.keepsInFile("VmletXXX") {
		g.t.Error("the guest's memory has come back without its UEFI's file")
	}
	k.survives(g.Running, []killedCall{
		{"take", func() {}, func() error { _, err := g.take("new", false); return err }, func() { g.has("VmletOne VmletTwo"); g.mustRemove("new") }},
		{"restore", func() { setVariable(g.Running, "VmletXXX") }, func() error { return g.restore("memory") }, func() { g.has("VmletOne VmletTwo") }},
	})
	g.mustRestore("disk")
	g.has("VmletOne")
	if g.keepsInFile("VmletTwo") {
		g.t.Error("the file has what came after the snapshot")
	}
	if _, err := reboot(g.ctx(), g.node, g.SandboxID, vmletv1.RebootMode_REBOOT_MODE_RESET); err != nil {
		g.t.Fatal(err)
	}
	g.has("VmletOne")
	g.mustRemove("memory")
	g.mustRemove("disk")
	g.alone()
}

// checkpoints writes the guest away, and has it go on in another sandbox.
func (g guestOfUEFI) checkpoints(node checkpointing, pod harness.Pod) {
	g.t.Helper()
	setVariable(g.Running, "VmletTwo")
	boot := g.BootID()
	if err := node.checkpoint(g.Running, "efi"); err != nil {
		g.t.Fatal(err)
	}
	setVariable(g.Running, "VmletXXX")
	g.alone()
	if held := strings.Join(node.holds(), " "); held != "efi/manifest.json efi/memory.save efi/root.nvram efi/root.qcow2" {
		g.t.Errorf("the checkpoint holds %s", held)
	}
	g.Remove()
	if _, err := node.restore(harness.Pod{Name: "efi", Annotations: map[string]string{"vmlet.io/memory": "256Mi"}}, "efi"); err == nil {
		g.t.Error("it was restored to boot by BIOS")
	}
	g.Running = node.mustRestore(pod, "efi")
	g.Start()
	if now := g.BootID(); now != boot {
		g.t.Errorf("boot %s, was %s", now, boot)
	}
	g.has("VmletOne VmletTwo")
	if !g.keepsInFile("VmletTwo") || g.keepsInFile("VmletXXX") {
		g.t.Error("the file is not the checkpoint's")
	}
	g.alone()
	if st := g.Status().GetState(); st != runtimeapi.ContainerState_CONTAINER_RUNNING {
		g.t.Errorf("the container is %s", st)
	}
}
