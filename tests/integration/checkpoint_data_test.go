// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
	"github.com/vmlet/vmlet/tests/harness"
)

// mounted is a VM with a file system on its data disk, to which a program in it goes on writing.
type mounted struct{ snapshotted }

// mountData has the guest do that.
func (m mounted) mountData() {
	m.t.Helper()
	m.Exec("sh", "-c", "d=/dev/$("+guestDisk("data")+") && mke2fs $d >/dev/null && mkdir -p /mnt/fs && mount -t ext4 $d /mnt/fs")
	m.Exec("sh", "-c", "(n=0; while :; do n=$((n+1)); echo $n; sleep 0.1; done) >/mnt/fs/log 2>/dev/null </dev/null &")
}

// keep writes a file there, and does not wait until it is on the disk; kept is what is in it, past what the guest has in its memory.
func (m mounted) keep(text string) {
	m.t.Helper()
	m.Exec("sh", "-c", "echo "+text+" >/mnt/fs/kept")
}

func (m mounted) kept() string {
	m.t.Helper()
	return m.Exec("sh", "-c", "sync; echo 3 >/proc/sys/vm/drop_caches; cat /mnt/fs/kept")
}

// goesOn proves that the file system is as it was left, and that the program writes to it still.
func (m mounted) goesOn(want string) {
	m.t.Helper()
	if got := m.kept(); got != want {
		m.t.Errorf("the file system has %q, want %q", got, want)
	}
	before := m.Exec("wc", "-l", "/mnt/fs/log")
	m.node.Eventually(time.Minute, func() error {
		if now := m.Exec("wc", "-l", "/mnt/fs/log"); now == before {
			return fmt.Errorf("nobody writes to it any more: %s", now)
		}
		return nil
	})
	if said := m.Exec("sh", "-c", "dmesg | grep -i 'ext4-fs error\\|i/o error' || true"); said != "" {
		m.t.Errorf("the guest says %s", said)
	}
}

// TestCheckpointsOfDataDisks: a guest with a mounted data disk goes on in another sandbox with that of the checkpoint's moment, which is a
// disk like any other there.
func TestCheckpointsOfDataDisks(t *testing.T) {
	node := newCheckpointing(t)
	pod := harness.Pod{Name: "disks"}
	m := mounted{snapshotted{node.Run(pod), t, node.Node}}
	w := &diskWorld{t: t, node: node.Node, pod: m.Running}
	m.WaitReady()
	w.attach(bySize("data", 64*mib))
	m.mountData()
	m.keep("one")
	m.mustTake("before", false) // something is under both disks
	m.keep("two")
	boot, was := m.BootID(), w.disk("data")

	dir := filepath.Join(node.dir, "one")
	if said := node.ctl(true, "checkpoint", "disks", dir); !strings.Contains(said, "data") {
		t.Errorf("vmletctl does not tell of the disk: %s", said)
	}
	m.keep("three")
	m.goesOn("three")
	if d := w.disk("data"); len(d.GetLayers()) > 3 {
		t.Errorf("the disk has become %v", d.GetLayers())
	}
	info, err := os.Stat(filepath.Join(dir, "data-vdc.qcow2"))
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() > 16*mib {
		t.Errorf("of a disk with next to nothing on it there is %v, %v", info, err)
	}
	m.Remove()

	m.Running = node.mustRestore(pod, "one")
	w.pod = m.Running
	m.Start()
	if now := m.BootID(); now != boot {
		t.Errorf("boot %s, was %s", now, boot)
	}
	m.goesOn("two")
	if d := w.disk("data"); d.GetTarget() != was.GetTarget() || d.GetSerial() != was.GetSerial() || len(d.GetLayers()) != 1 ||
		filepath.Dir(d.GetLayers()[0].GetPath()) == filepath.Dir(was.GetLayers()[0].GetPath()) {
		t.Errorf("the disk is %v, was %v", d, was)
	}
	w.attach(bySize("data", 64*mib)) // it is there

	m.keep("four")
	m.inIt(m.mustTake("after", true), "data of 64 MiB without ")
	m.keep("five")
	m.mustRestore("after")
	m.goesOn("four")
	m.mustRemove("after")
	m.onlyWithData()
	w.resize("data", 96*mib, false)
	if _, size := w.seen("data"); size != 96*mib {
		t.Errorf("the guest sees %d bytes", size)
	}
	if _, err := reboot(t.Context(), node.Node, m.SandboxID, vmletv1.RebootMode_REBOOT_MODE_ACPI); err != nil {
		t.Fatal(err)
	}
	m.Exec("sh", "-c", "mkdir -p /mnt/fs && mount -t ext4 /dev/$("+guestDisk("data")+") /mnt/fs")
	if got := m.kept(); got != "four" {
		t.Errorf("after a reboot the file system has %q", got)
	}
	m.Exec("umount", "/mnt/fs")
	w.detach("data", true)
	for _, name := range node.SandboxFiles(m.SandboxID) {
		if strings.HasPrefix(name, "data-") || strings.HasPrefix(name, "memory-") {
			t.Errorf("%s is left", name)
		}
	}
}
