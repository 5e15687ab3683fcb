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

	"github.com/vishvananda/netlink"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
	"github.com/vmlet/vmlet/tests/harness"
)

// wholeVM is a VM with a share, two attached NICs, a disk that it can only read, and more CPUs and memory than it was made with;
// and what proves, wherever it goes on, that it is that one.
type wholeVM struct {
	t        *testing.T
	node     checkpointing
	pod      harness.Pod
	vol      volumes
	iso, cni string
	r        *harness.Running
	boot     string
	nics     []*vmletv1.NIC
	memory   string // as the guest tells it
	words    int
}

func newWholeVM(t *testing.T, kill string) *wholeVM {
	t.Helper()
	isos := t.TempDir()
	for _, d := range []string{isos, filepath.Dir(isos)} { // QEMU's user passes through
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w := &wholeVM{t: t, vol: makeVolumes(t), iso: filepath.Join(isos, "tools.iso")}
	w.node = newCheckpointing(t, harness.WithEnv("VMLET_FAILPOINT_KILL="+kill), harness.WithConfig("disks: {allowedPaths: ["+isos+"]}"))
	secondNetwork(t, w.node.Node)
	w.cni = w.ownNetwork()
	writeFile(t, w.iso, "read me"+strings.Repeat("\n", int(mib)-len("read me")))
	w.pod = harness.Pod{
		Name: "whole", Container: func(c *runtimeapi.ContainerConfig) { c.Mounts = w.vol.mounts() },
		Annotations: map[string]string{
			"vmlet.io/vcpus": "1", "vmlet.io/max-vcpus": "2", "vmlet.io/memory": "160Mi", "vmlet.io/max-memory": "416Mi",
		},
	}
	w.r = w.node.Run(w.pod)
	w.r.WaitReady()
	w.node.Eventually(time.Minute, func() error {
		_, err := w.r.TryExec(t.Context(), "cat", "/data/from-host")
		return err
	})
	for _, req := range []*vmletv1.AttachNICRequest{{Name: "eth1", Network: "second"}, {Name: "eth2", CniConfig: w.cni}} {
		if _, err := (nicPod{w.r, t, w.node.Node}).tryAttach(req); err != nil {
			t.Fatal(err)
		}
	}
	disk := byPath("tools", w.iso, raw)
	disk.Vm, disk.ReadOnly = w.r.SandboxID, true
	if _, err := w.node.VMs.AttachDisk(t.Context(), disk); err != nil {
		t.Fatal(err)
	}
	w.grow()
	w.r.Exec("sh", "-c", countInMemory)
	w.boot, w.nics, w.memory = w.r.BootID(), nicPod{w.r, t, w.node.Node}.list(), w.r.Exec("awk", "/^MemTotal:/ { print $2 }", "/proc/meminfo")
	return w
}

// ownNetwork is a CNI configuration that the node does not know.
func (w *wholeVM) ownNetwork() string {
	bridge := strings.Replace(w.node.Bridge(), "vmbr-", "vmb3-", 1)
	w.t.Cleanup(func() {
		if l, err := netlink.LinkByName(bridge); err == nil {
			if err := netlink.LinkDel(l); err != nil {
				w.t.Error(err)
			}
		}
	})
	return fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "own", "type": "bridge", "bridge": %q, "isGateway": true,
  "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.79.0.0/24"}]]}}`, bridge, w.node.Leases)
}

// grow resizes the VM. Where QEMU has no room for another emulated CPU, what the guest runs makes some.
func (w *wholeVM) grow() {
	w.t.Helper()
	s := &sizeWorld{t: w.t, node: w.node.Node, pod: w.r}
	for range 8 {
		did, err := w.node.VMs.Resize(w.node.ctx(), &vmletv1.ResizeRequest{Vm: w.r.SandboxID, Cpus: 2, MemoryBytes: 288 * mib, WaitMs: 5000})
		if err != nil {
			w.t.Fatal(err)
		}
		if did.GetCpus().GetAfter() == 2 && did.GetMemoryBytes().GetAfter() == 288*mib {
			return
		}
		s.fillCache()
	}
	w.t.Fatal("it cannot be resized")
}

// whole proves that it is the VM that it was, with all that it had, inside and on the host.
func (w *wholeVM) whole() {
	w.t.Helper()
	s := snapshotted{w.r, w.t, w.node.Node}
	e := equipped{s, nicPod{w.r, w.t, w.node.Node}, w.vol.data}
	w.node.Eventually(time.Minute, func() error {
		_, err := w.r.TryExec(w.t.Context(), "timeout", "3", "cat", "/data/from-host")
		if st := w.r.Status(); st.GetState() == runtimeapi.ContainerState_CONTAINER_EXITED {
			w.t.Fatalf("its VM has ended: %d %s: %s", st.GetExitCode(), st.GetReason(), st.GetMessage())
		}
		return err
	})
	w.words++
	e.shares(fmt.Sprint("word-", w.words))
	e.machineHas("eth0", "eth1", "eth2")
	now := e.nics.list()
	for i, nic := range now {
		// Of a network without the capability ips one address can be asked for, and the guest is told of the other.
		if was := w.nics[i]; nic.GetMac() != was.GetMac() || nic.GetIps()[0] != was.GetIps()[0] {
			w.t.Errorf("NIC %v, was %v", nic, was)
		}
	}
	if boot := w.r.BootID(); boot != w.boot {
		w.t.Errorf("boot %s, was %s", boot, w.boot)
	}
	if got := w.r.Exec("head", "-c", "7", "/dev/"+w.r.Exec("sh", "-c", guestDisk("tools"))); got != "read me" {
		w.t.Errorf("the disk has %q", got)
	}
	if cpus, memory := w.r.Exec("nproc"), w.r.Exec("awk", "/^MemTotal:/ { print $2 }", "/proc/meminfo"); cpus != "2" || memory != w.memory {
		w.t.Errorf("the guest has %s CPUs and %s KiB, had %s", cpus, memory, w.memory)
	}
	xml := harness.Virsh(w.t, "dumpxml", w.r.DomainName())
	for _, want := range []string{">2</vcpu>", "<current unit='KiB'>131072<", "<driver type='virtiofs'", w.iso} {
		if !strings.Contains(xml, want) {
			w.t.Errorf("the machine has no %s: %s", want, xml)
		}
	}
	s.counts(0)
	s.only()
}

func (w *wholeVM) mustCheckpoint(name string) {
	w.t.Helper()
	if err := w.node.checkpoint(w.r, name); err != nil {
		w.t.Fatal(err)
	}
}

// nothing proves that a restore that failed has left nothing.
func (w *wholeVM) nothing(when string) {
	w.t.Helper()
	list, err := w.node.ListPodSandbox(w.node.ctx(), &runtimeapi.ListPodSandboxRequest{})
	if err != nil || len(list.GetItems()) > 0 {
		w.t.Errorf("%s: sandboxes %v, %v", when, list.GetItems(), err)
	}
	leases, err := filepath.Glob(filepath.Join(w.node.Leases, "*", "[0-9f]*"))
	if err != nil || len(leases) > 0 {
		w.t.Errorf("%s: leases %v, %v", when, leases, err)
	}
	for _, dir := range []string{"node/cni/attachments/*", "sandboxes/*"} {
		if left, err := filepath.Glob(filepath.Join(w.node.LibDir, dir)); err != nil || len(left) > 0 {
			w.t.Errorf("%s: left are %v, %v", when, left, err)
		}
	}
}

// TestCheckpointsOfAWholeVM: one VM with all that can be given to one is written away and goes on elsewhere, also where vmlet is
// killed on the way.
func TestCheckpointsOfAWholeVM(t *testing.T) {
	kill := filepath.Join(t.TempDir(), "kill")
	w := newWholeVM(t, kill)
	node := w.node
	restore := func() error { _, err := node.restore(w.pod, "two"); return err }

	t.Run("goes on", func(t *testing.T) {
		w.t = t
		w.whole()
		w.mustCheckpoint("one")
		w.whole() // it is as it was
		w.r.Remove()
		writeFile(t, filepath.Join(w.vol.data, "later"), "of the host")
		w.r = node.mustRestore(w.pod, "one")
		w.r.Start()
		w.whole()
		if got := w.r.Exec("cat", "/data/later"); got != "of the host" {
			t.Errorf("the folder is another's: %q", got)
		}
		// The same call finds the NIC.
		resp, err := (nicPod{w.r, t, node.Node}).tryAttach(&vmletv1.AttachNICRequest{Name: "eth2", CniConfig: w.cni})
		if err != nil || resp.GetNic().GetMac() != w.nics[2].GetMac() {
			t.Errorf("attached again: %v, %v", resp, err)
		}
	})

	die := func(t *testing.T, mark string, call func() error) {
		t.Helper()
		if err := os.WriteFile(kill, []byte(mark), 0o600); err != nil {
			t.Fatal(err)
		}
		err := call()
		select {
		case <-node.Exited():
		case <-time.After(5 * time.Second):
			t.Fatalf("failpoint %s was never reached: %v", mark, err)
		}
		if err := os.Remove(kill); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		node.Stop() // forgets the dead process
		node.Start()
	}
	t.Run("killed while it is written", func(t *testing.T) {
		w.t = t
		node.Stop()
		node.Start() // a process whose hits are counted from here; each call repeats what the one before died in
		for _, mark := range []string{
			"revert/share-unmount 1", "revert/share-unplug 1", "store/snapshot-taken/before 1", "revert/checkpoint-file-memory.save 1",
		} {
			die(t, mark, func() error { return node.checkpoint(w.r, "two") })
			node.Eventually(time.Minute, func() error {
				if _, err := w.r.TryExec(t.Context(), "timeout", "3", "cat", "/data/from-host"); err != nil {
					return err
				}
				if files := node.holds(); len(files) != 3 {
					return fmt.Errorf("killed at %s: the checkpoint has left %v", mark, files)
				}
				return nil
			})
		}
		w.whole()
		w.mustCheckpoint("two")
		w.r.Remove()
	})
	t.Run("killed while it is restored", func(t *testing.T) {
		w.t = t
		node.Stop()
		node.Start()
		for _, mark := range []string{
			"revert/NIC-ADD 2", "store/sandbox-attached/before 1", "store/data-disk-restored/after 1", "store/pod-restored/before 1",
		} {
			die(t, mark, restore)
			w.nothing("killed at " + mark)
		}
		w.r = node.mustRestore(w.pod, "two") // which is of a VM that was restored
		start := func() error {
			_, err := node.StartContainer(node.ctx(), &runtimeapi.StartContainerRequest{ContainerId: w.r.ContainerID})
			return err
		}
		die(t, "store/memory-taken/before 1", start)
		w.whole()
		w.r.Remove()
	})
	t.Run("refused", func(t *testing.T) {
		w.t = t
		conf := filepath.Join(node.CNIDir(), "20-second.conflist")
		away := func(path string) (back func()) {
			if err := os.Rename(path, path+".away"); err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := os.Rename(path+".away", path); err != nil {
					t.Fatal(err)
				}
			}
		}
		for path, words := range map[string]string{
			conf: `NIC eth1, which cannot be had here`, w.iso: `disk "tools", which cannot be had here`, w.vol.data: "does not exist",
		} {
			back := away(path)
			if err := restore(); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), words) {
				t.Errorf("without %s: %v", path, err)
			}
			node.ctl(false, "restore", filepath.Join(node.dir, "two"))
			back()
		}
		was := w.pod.Annotations
		w.pod.Annotations = map[string]string{"vmlet.io/vcpus": "2", "vmlet.io/memory": "288Mi", "vmlet.io/max-memory": "416Mi"}
		if err := restore(); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "2 CPUs and 288 MiB") {
			t.Errorf("of another size: %v", err)
		}
		w.pod.Annotations = was
		w.nothing("refused")
	})
	t.Run("at another address", func(t *testing.T) {
		w.t = t
		ip, _, _ := strings.Cut(w.nics[1].GetIps()[0], "/")
		lease := filepath.Join(node.Leases, "second", ip)
		writeFile(t, lease, "somebody else\r\neth0")
		defer os.Remove(lease) //nolint:errcheck // the node's end looks
		// As the checkpoint says, its mounts included.
		ids := strings.Fields(node.ctl(true, "restore", filepath.Join(node.dir, "one")))
		w.r = node.Adopt(w.pod, ids[len(ids)-2], ids[len(ids)-1])
		p := nicPod{w.r, t, node.Node}
		now := p.list()
		if now[1].GetIps()[0] == w.nics[1].GetIps()[0] || now[0].GetMac() != w.nics[0].GetMac() {
			t.Errorf("NICs %v, were %v", now, w.nics)
		}
		for _, nic := range now {
			p.works(nic)
		}
		if got := w.r.Exec("ip", "-o", "addr", "show", "dev", "eth1"); strings.Contains(got, " "+w.nics[1].GetIps()[0]+" ") {
			t.Errorf("it still has its former address: %s", got)
		}
		node.Eventually(time.Minute, func() error {
			_, err := w.r.TryExec(t.Context(), "timeout", "3", "cat", "/data/later")
			return err
		})
		// What it is made of later is whole as well.
		if _, err := node.VMs.Reboot(node.ctx(), &vmletv1.RebootRequest{Vm: w.r.SandboxID, Mode: vmletv1.RebootMode_REBOOT_MODE_AGENT}); err != nil {
			t.Fatal(err)
		}
		for _, nic := range p.list() {
			p.works(nic)
		}
		w.r.Remove()
	})
}
