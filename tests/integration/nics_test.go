// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
	"github.com/vmlet/vmlet/tests/harness"
)

// nicCyclesEnv says how many times a NIC is attached and detached: a few in each run, 100 by
//
//	VMLET_NIC_CYCLES=100 go test -tags integration -run 'TestNICs/cycles' ./tests/integration
const nicCyclesEnv = "VMLET_NIC_CYCLES"

// secondNetwork gives a node another CNI network, on a bridge of its own, which takes addresses that are asked for.
func secondNetwork(t *testing.T, node *harness.Node) {
	t.Helper()
	bridge := strings.Replace(node.Bridge(), "vmbr-", "vmb2-", 1)
	conflist := fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "second", "plugins": [
  {"type": "bridge", "bridge": %q, "isGateway": true, "capabilities": {"mac": true, "ips": true},
   "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.78.0.0/24"}]]}}]}`, bridge, node.Leases)
	if err := os.WriteFile(filepath.Join(node.CNIDir(), "20-second.conflist"), []byte(conflist), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if l, err := netlink.LinkByName(bridge); err == nil {
			if err := netlink.LinkDel(l); err != nil {
				t.Error(err)
			}
		}
	})
}

// nicPod is a pod whose NICs come and go.
type nicPod struct {
	*harness.Running
	t    *testing.T
	node *harness.Node
}

func (p nicPod) tryAttach(req *vmletv1.AttachNICRequest) (*vmletv1.AttachNICResponse, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	req.Vm = p.SandboxID
	return p.node.VMs.AttachNIC(ctx, req)
}

// attach attaches a NIC and proves that the guest has it.
func (p nicPod) attach(name, network string) *vmletv1.NIC {
	p.t.Helper()
	resp, err := p.tryAttach(&vmletv1.AttachNICRequest{Name: name, Network: network})
	if err != nil {
		p.t.Fatal(err)
	}
	if resp.GetGuest() != vmletv1.NICGuestState_NIC_GUEST_STATE_CONFIGURED {
		p.t.Fatalf("in the guest: %s %s", resp.GetGuest(), resp.GetGuestMessage())
	}
	p.works(resp.GetNic())
	return resp.GetNic()
}

func (p nicPod) tryDetach(name string, wait time.Duration) error {
	_, err := p.node.VMs.DetachNIC(p.t.Context(), &vmletv1.DetachNICRequest{Vm: p.SandboxID, Name: name, WaitMs: wait.Milliseconds()})
	return err
}

func (p nicPod) detach(name string) {
	p.t.Helper()
	if err := p.tryDetach(name, time.Minute); err != nil {
		p.t.Fatal(err)
	}
	if links := p.Exec("ls", "/sys/class/net"); slices.Contains(strings.Fields(links), name) {
		p.t.Errorf("the guest still has %s", links)
	}
}

// works proves that a NIC has its MAC and addresses in the guest, and answers at them from the host.
func (p nicPod) works(nic *vmletv1.NIC) {
	p.t.Helper()
	p.node.Eventually(time.Minute, func() error {
		mac, err := p.TryExec(p.t.Context(), "cat", "/sys/class/net/"+nic.GetName()+"/address")
		if err != nil || mac != nic.GetMac() {
			return fmt.Errorf("%s has the MAC %s in the guest, not %s: %w", nic.GetName(), mac, nic.GetMac(), err)
		}
		addresses, err := p.TryExec(p.t.Context(), "ip", "-o", "addr", "show", "dev", nic.GetName())
		if err != nil {
			return err
		}
		for _, ip := range nic.GetIps() {
			if !strings.Contains(addresses, " "+ip+" ") {
				return fmt.Errorf("%s lacks %s in the guest: %s", nic.GetName(), ip, addresses)
			}
			if addr := netip.MustParsePrefix(ip).Addr(); !pings(addr.String()) {
				return fmt.Errorf("%s does not answer", addr)
			}
		}
		return nil
	})
}

func (p nicPod) list() (nics []*vmletv1.NIC) {
	p.t.Helper()
	resp, err := p.node.VMs.ListNICs(p.t.Context(), &vmletv1.ListNICsRequest{Vm: p.SandboxID})
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.GetNics()
}

// onlyItsOwn proves that nothing but the pod's own NIC is there: on record, in the machine, and with CNI.
func (p nicPod) onlyItsOwn() {
	p.t.Helper()
	if nics := p.list(); len(nics) != 1 || !nics[0].GetPrimary() {
		p.t.Errorf("NICs: %v", nics)
	}
	if taps := strings.Count(harness.Virsh(p.t, "domiflist", p.DomainName()), "vml"); taps != 1 {
		p.t.Errorf("the machine has %d NICs", taps)
	}
	leases, err := filepath.Glob(filepath.Join(p.node.Leases, "*", "[0-9f]*"))
	if err != nil || len(leases) != 2 { // the pod's IPv4 and IPv6
		p.t.Errorf("leases: %v, %v", leases, err)
	}
	attachments, err := filepath.Glob(filepath.Join(p.node.LibDir, "node/cni/attachments/*"))
	if err != nil || len(attachments) != 1 {
		p.t.Errorf("attachments: %v, %v", attachments, err)
	}
}

// TestNICs: one guest is given NICs and loses them.
func TestNICs(t *testing.T) {
	node := harness.StartNode(t)
	secondNetwork(t, node)
	pod := nicPod{node.Run(harness.Pod{Name: "nics"}), t, node}
	pod.WaitReady()
	sub := func(name string, do func(p nicPod)) {
		t.Run(name, func(t *testing.T) { do(nicPod{pod.Running, t, pod.node}) })
	}
	var second, again *vmletv1.NIC
	sub("what was asked for", func(p nicPod) {
		resp, err := p.tryAttach(&vmletv1.AttachNICRequest{Name: "eth1", Network: "second", Mac: "02:00:00:00:78:07", Ips: []string{"10.78.0.77/24"}, Tag: "t"})
		if err != nil {
			p.t.Fatal(err)
		}
		second = resp.GetNic()
		if second.GetMac() != "02:00:00:00:78:07" || !slices.Equal(second.GetIps(), []string{"10.78.0.77/24"}) || resp.GetGuest() != vmletv1.NICGuestState_NIC_GUEST_STATE_CONFIGURED {
			p.t.Errorf("got %v", resp)
		}
		p.works(second)
		_, err = p.tryAttach(&vmletv1.AttachNICRequest{Name: "eth1", Network: "second"})
		if status.Code(err) != codes.AlreadyExists || !strings.Contains(err.Error(), "mac, ips, tag") {
			p.t.Errorf("another one of the name: %v", err)
		}
		_, err = p.tryAttach(&vmletv1.AttachNICRequest{Name: "eth2", Ips: []string{"10.1.2.3"}})
		if err == nil || len(p.list()) != 2 {
			p.t.Errorf("an address that the network does not have: %v, %v", err, p.list())
		}
		if err := p.tryDetach("eth0", 0); status.Code(err) != codes.FailedPrecondition {
			p.t.Errorf("the pod's own: %v", err)
		}
	})
	sub("the pod's network once more", func(p nicPod) {
		again = p.attach("eth2", "")
		p.works(second)
		if p.Exec("sh", "-c", "ip route | grep -c default") != "1" {
			p.t.Error("another way out")
		}
	})
	both := func(p nicPod) { p.works(second); p.works(again); p.BootID() }
	sub("link", func(p nicPod) {
		link := func(up bool, carrier string) {
			if _, err := p.node.VMs.SetLinkState(p.t.Context(), &vmletv1.SetLinkStateRequest{Vm: "test/nics", Name: "eth1", Up: up}); err != nil {
				p.t.Fatal(err)
			}
			p.node.Eventually(time.Minute, func() error {
				if got := p.Exec("cat", "/sys/class/net/eth1/carrier"); got != carrier {
					return fmt.Errorf("carrier %s, want %s", got, carrier)
				}
				return nil
			})
		}
		link(false, "0")
		if pings("10.78.0.77") {
			p.t.Error("it answers without a carrier")
		}
		link(true, "1")
		both(p)
	})
	sub("after a reboot", func(p nicPod) {
		if _, err := reboot(p.t.Context(), p.node, p.SandboxID, vmletv1.RebootMode_REBOOT_MODE_AGENT); err != nil {
			p.t.Fatal(err)
		}
		both(p)
	})
	sub("over daemons", func(p nicPod) {
		p.node.Kill9()
		harness.KillLibvirtd(p.t)
		harness.StartLibvirtd(p.t)
		p.node.Start()
		both(p)
		if nics := p.list(); len(nics) != 3 || !nics[1].GetPlugged() {
			p.t.Errorf("NICs: %v", nics)
		}
	})
	sub("a guest that does not let go", func(p nicPod) {
		// Behind vmlet's back: nothing in the guest goes on.
		harness.Virsh(p.t, "suspend", p.DomainName())
		if err := p.tryDetach("eth1", time.Second); status.Code(err) != codes.DeadlineExceeded {
			p.t.Errorf("error = %v", err)
		}
		if nics := p.list(); len(nics) != 3 || nics[1].GetState() != vmletv1.NICState_NIC_STATE_ATTACHED || !nics[1].GetPlugged() {
			p.t.Errorf("NICs: %v", nics)
		}
		harness.Virsh(p.t, "resume", p.DomainName())
		// What it was asked for it hears now. It gets the same NIC again.
		p.node.Eventually(time.Minute, func() error {
			if p.list()[1].GetPlugged() {
				return errors.New("the guest has not let go")
			}
			return nil
		})
		resp, err := p.tryAttach(&vmletv1.AttachNICRequest{Name: "eth1", Network: "second", Mac: "02:00:00:00:78:07", Ips: []string{"10.78.0.77/24"}, Tag: "t"})
		if err != nil {
			p.t.Fatal(err)
		}
		p.works(resp.GetNic())
		p.detach("eth1")
		p.detach("eth2")
		p.onlyItsOwn()
	})
	sub("as many as there are ports", func(p nicPod) {
		var names []string
		for n := 1; ; n++ {
			name := fmt.Sprintf("eth%d", n)
			_, err := p.tryAttach(&vmletv1.AttachNICRequest{Name: name, Network: "second"})
			if status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "PCIe ports") {
				break
			}
			if err != nil {
				p.t.Fatal(err)
			}
			names = append(names, name)
		}
		nics := p.list()
		if len(nics) < 8 || len(nics) != len(names)+1 {
			p.t.Errorf("%d NICs", len(nics))
		}
		p.t.Logf("%d NICs", len(nics))
		p.works(nics[len(nics)-1])
		for _, name := range names {
			p.detach(name)
		}
		p.onlyItsOwn()
	})
	sub("cycles", func(p nicPod) {
		cycles := 3
		if n, err := strconv.Atoi(os.Getenv(nicCyclesEnv)); err == nil {
			cycles = n
		}
		for range cycles {
			p.attach("eth1", "second")
			p.detach("eth1")
		}
		p.onlyItsOwn()
		if rules := p.Exec("sh", "-c", "ip rule | grep -c 30317; true"); rules != "0" {
			p.t.Errorf("%s routing rules are left in the guest", rules)
		}
	})
	sub("between boots", func(p nicPod) {
		stop(p.t, p.node, p.ContainerID, 10)
		resp, err := p.tryAttach(&vmletv1.AttachNICRequest{Name: "net1", Network: "second"})
		if err != nil || resp.GetGuest() != vmletv1.NICGuestState_NIC_GUEST_STATE_NOT_RUNNING {
			p.t.Fatalf("got %v, %v", resp, err)
		}
		p.Create()
		p.Start()
		p.works(resp.GetNic())
	})
}

// TestKilledAtEveryStepOfANIC: vmlet is killed at each failpoint that attaching and detaching pass. The call can be
// repeated, and nothing is left. The guest has no vmlet-agent: it sees the device, and has the addresses from the next machine's seed.
func TestKilledAtEveryStepOfANIC(t *testing.T) {
	k := newKiller(t)
	node := harness.StartNode(t, k.watched())
	k.node = node
	secondNetwork(t, node)
	p := nicPod{node.Run(harness.Pod{Name: "nics", Image: node.PullQGAImage(), Annotations: map[string]string{"vmlet.io/guest-agent": "qga"}}), t, node}
	p.WaitReady()
	boot := p.BootID()
	attach := func() error {
		_, err := p.tryAttach(&vmletv1.AttachNICRequest{Name: "eth1", Network: "second"})
		return err
	}
	detach := func() error {
		if err := p.tryDetach("eth1", time.Minute); status.Code(err) != codes.NotFound {
			return err
		}
		return nil // its next life has finished it
	}
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}

	attaching := k.passes(8, func() { must("attach", attach()) })
	detaching := k.passes(5, func() { must("detach", detach()) })
	for i, mark := range attaching {
		k.dieAt(attaching, i, attach)
		must("killed at "+mark+": again", attach())
		if nics := p.list(); len(nics) != 2 || !nics[1].GetPlugged() {
			t.Errorf("killed at %s: NICs %v", mark, nics)
		}
		must("detach", detach())
		p.onlyItsOwn()
	}
	for i, mark := range detaching {
		must("attach", attach())
		k.dieAt(detaching, i, detach)
		must("killed at "+mark+": again", detach())
		p.onlyItsOwn()
	}
	if now := p.BootID(); now != boot {
		t.Errorf("the guest is in boot %s, was in %s", now, boot)
	}

	resp, err := p.tryAttach(&vmletv1.AttachNICRequest{Name: "eth1", Network: "second"})
	if err != nil || resp.GetGuest() != vmletv1.NICGuestState_NIC_GUEST_STATE_NO_AGENT {
		t.Fatalf("got %v, %v", resp, err)
	}
	node.Eventually(time.Minute, func() error {
		if mac := p.Exec("sh", "-c", "cat /sys/class/net/*/address"); !strings.Contains(mac, resp.GetNic().GetMac()) {
			return fmt.Errorf("the guest has the MACs %s", mac)
		}
		return nil
	})
	if _, err := reboot(t.Context(), node, p.SandboxID, vmletv1.RebootMode_REBOOT_MODE_ACPI); err != nil {
		t.Fatal(err)
	}
	p.WaitBoots(2)
	p.works(resp.GetNic())
}
