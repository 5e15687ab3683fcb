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

// equipped is a VM with a share and NICs that snapshots are taken of.
type equipped struct {
	snapshotted
	nics nicPod
	data string
}

// shares proves that the guest has its share, both ways, and that one virtiofsd serves it. word is new each time: the guest
// may still know the size of an old file.
func (e equipped) shares(word string) {
	e.t.Helper()
	writeFile(e.t, filepath.Join(e.data, "host-"+word), word)
	if got := e.Exec("cat", "/data/host-"+word); got != word {
		e.t.Errorf("the guest reads %q, want %q", got, word)
	}
	e.Exec("sh", "-c", "echo "+word+" >/data/guest-"+word)
	if got, err := os.ReadFile(filepath.Join(e.data, "guest-"+word)); string(got) != word+"\n" {
		e.t.Errorf("the host reads %q, %v, want %q", got, err, word)
	}
	if pids := harness.Processes(e.t, "virtiofsd", e.SandboxID); len(pids) != 2 { // one that serves, and its parent
		e.t.Errorf("virtiofsd is processes %v", pids)
	}
}

// machineHas proves that the running machine has these NICs, and no others.
func (e equipped) machineHas(names ...string) {
	e.t.Helper()
	for _, nic := range e.nics.list() {
		e.nics.works(nic)
	}
	links := strings.Fields(e.Exec("ls", "/sys/class/net"))
	links = slices.DeleteFunc(links, func(name string) bool { return !strings.HasPrefix(name, "eth") })
	slices.Sort(links)
	if !slices.Equal(links, names) {
		e.t.Errorf("the guest has %v, want %v", links, names)
	}
	if taps := harness.Virsh(e.t, "domiflist", e.DomainName()); strings.Count(taps, "vml") != len(names) || strings.Contains(taps, "vmx") {
		e.t.Errorf("the machine has %s", taps)
	}
}

// TestSnapshotsOfAGuestWithDevices: memory is taken and put back of a guest that has a share and NICs which change; vmlet may
// be killed meanwhile. One guest and one node for all of it.
func TestSnapshotsOfAGuestWithDevices(t *testing.T) {
	k := newKiller(t)
	node := harness.StartNode(t, k.watched())
	k.node = node
	secondNetwork(t, node)
	v := makeVolumes(t)
	pod := node.Run(harness.Pod{Name: "devices", Container: func(c *runtimeapi.ContainerConfig) { c.Mounts = v.mounts() }})
	pod.WaitReady()
	e := equipped{snapshotted{pod, t, node}, nicPod{pod, t, node}, v.data}
	in := func(t *testing.T) equipped { return equipped{snapshotted{pod, t, node}, nicPod{pod, t, node}, v.data} }
	boot := e.BootID()
	pod.Exec("sh", "-c", countInMemory)
	node.Eventually(time.Minute, func() error {
		_, err := pod.TryExec(t.Context(), "cat", "/data/from-host")
		return err
	})

	t.Run("a share", func(t *testing.T) {
		e := in(t)
		e.shares("before")
		counted := e.count()
		snap := e.mustTake("shared", true)
		if !snap.GetMemory() || snap.GetConsistency() != vmletv1.SnapshotConsistency_SNAPSHOT_CONSISTENCY_MEMORY {
			t.Errorf("it is told as %v", snap)
		}
		e.shares("after")
		e.remember("after")
		e.counts(counted)
		e.mustRestore("shared")
		e.shares("restored") // at once
		e.remembers("after", false)
		e.counts(counted)
		if now := e.BootID(); now != boot {
			t.Errorf("boot %s, was %s", now, boot)
		}
	})

	t.Run("a share in use", func(t *testing.T) {
		e := in(t)
		n := 0
		for what, hold := range map[string]string{
			"an open file":                 "exec sleep 1000 </data/from-host",
			"a working folder":             "cd /data; exec sleep 1000",
			"a mount namespace of its own": "exec unshare -m sleep 1000",
		} {
			e.Exec("sh", "-c", "("+hold+") >/dev/null 2>&1 & echo $! >/run/holder; until grep -q sleep /proc/$!/comm; do sleep 0.1; done")
			_, err := e.take("busy", true)
			if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "(sleep)") || !strings.Contains(err.Error(), "/data") {
				t.Errorf("%s: %v", what, err)
			}
			n++
			e.shares(fmt.Sprint("busy-", n))
			e.Exec("sh", "-c", "read pid </run/holder; kill $pid; while [ -e /proc/$pid ]; do sleep 0.1; done")
		}
		e.mustTake("free", true)
		e.mustRemove("free")
		if names := e.names(); len(names) != 1 {
			t.Errorf("snapshots %v", names)
		}
	})

	t.Run("NICs", func(t *testing.T) {
		e := in(t)
		first := e.nics.attach("eth1", "second")
		e.nics.attach("eth2", "")
		e.mustTake("nics", true)
		e.nics.detach("eth1")
		e.nics.detach("eth2")
		second := e.nics.attach("eth1", "second") // under the same name and tap it is another one
		if second.GetMac() == first.GetMac() {
			t.Fatal("it is the same NIC")
		}
		e.nics.attach("eth3", "second")
		e.mustRestore("nics")
		e.machineHas("eth0", "eth1", "eth3")
		e.shares("nics")
		e.mustRestore("shared") // of before there were any
		e.machineHas("eth0", "eth1", "eth3")
		e.shares("none")
		node.Stop()
		node.Start()
		e.machineHas("eth0", "eth1", "eth3")
		e.mustRestore("nics")
		e.machineHas("eth0", "eth1", "eth3")
		if now := e.BootID(); now != boot {
			t.Errorf("boot %s, was %s", now, boot)
		}
	})

	t.Run("kill", func(t *testing.T) {
		e := in(t)
		n := 0
		for mark, call := range map[string]func() error{
			"revert/share-unmount":        func() error { _, err := e.take("new", true); return err },
			"revert/share-unplug":         func() error { _, err := e.take("new", true); return err },
			"store/snapshot-taken/before": func() error { _, err := e.take("new", true); return err },
			"store/vm-restored/before":    func() error { return e.restore("nics") },
			"store/vm-rejoined/before":    func() error { return e.restore("nics") },
		} {
			k.fresh()
			born := time.Now()
			k.dieAt([]string{mark}, 0, call)
			node.Eventually(time.Minute, func() error {
				if _, err := e.TryExec(t.Context(), "timeout", "3", "cat", "/data/from-host"); err != nil {
					return fmt.Errorf("killed at %s: %w; since then:\n%s", mark, err, node.LogSince(born))
				}
				return nil
			})
			n++
			e.shares(fmt.Sprint("killed-", n))
			e.machineHas("eth0", "eth1", "eth3")
			// One whose memory was written the next vmlet has taken to its end.
			if err := call(); err != nil && status.Code(err) != codes.AlreadyExists {
				t.Fatalf("killed at %s: again: %v", mark, err)
			}
			e.shares(fmt.Sprint("again-", n))
			if strings.Contains(mark, "share") || strings.Contains(mark, "taken") {
				e.mustRemove("new")
			}
			if now := e.BootID(); now != boot {
				t.Errorf("killed at %s: boot %s, was %s", mark, now, boot)
			}
		}
	})
	e.mustRemove("nics")
	e.mustRemove("shared")
	e.only()
	e.shares("end")
}
