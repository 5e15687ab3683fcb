// SPDX-License-Identifier: Apache-2.0

//go:build integration

package network

import (
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Addresses of the link between the test's host and a client outside, of ranges for
// documentation (RFC 5737, RFC 3849).
const (
	host4, host4Other, client4 = "198.51.100.1", "198.51.100.2", "198.51.100.9"
	host6, host6Other, client6 = "2001:db8::1", "2001:db8::2", "2001:db8::9"
)

// outside makes a client outside of the host, on a link of their own.
func outside(t *testing.T) ns.NetNS {
	t.Helper()
	client, err := ns.TempNetNS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closing(t, client) })
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "out0"}, PeerName: "in0", PeerNamespace: netlink.NsFd(client.Fd())}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netlink.LinkDel(link); err != nil {
			t.Error(err)
		}
	})
	mustAddress(t, "out0", host4+"/24", host4Other+"/24", host6+"/64", host6Other+"/64")
	if err := client.Do(func(ns.NetNS) error {
		mustAddress(t, "in0", client4+"/24", client6+"/64")
		return setUp("lo")
	}); err != nil {
		t.Fatal(err)
	}
	return client
}

func mustAddress(t *testing.T, name string, addresses ...string) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	for _, text := range addresses {
		address, err := netlink.ParseAddr(text)
		if err != nil {
			t.Fatal(err)
		}
		address.Flags = 2 // IFA_F_NODAD: there is nobody to have it already
		if err := netlink.AddrAdd(link, address); err != nil {
			t.Fatal(err)
		}
	}
}

// serve answers at an address of the guest, until the test ends.
func serve(t *testing.T, guest ns.NetNS, address string) {
	t.Helper()
	var stream net.Listener
	var packets net.PacketConn
	err := guest.Do(func(ns.NetNS) (err error) {
		if stream, err = net.Listen("tcp", address); err != nil {
			return err
		}
		packets, err = net.ListenPacket("udp", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closing(t, stream); closing(t, packets) })
	go func() {
		for {
			conn, err := stream.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("guest")) //nolint:errcheck // the client's reading tells
			_ = conn.Close()                   //nolint:errcheck // likewise
		}
	}()
	go func() {
		question := make([]byte, 16)
		for {
			_, from, err := packets.ReadFrom(question)
			if err != nil {
				return
			}
			_, _ = packets.WriteTo([]byte("guest"), from) //nolint:errcheck // the client's reading tells
		}
	}()
}

// answers tells whether the guest answers at an address. Nobody listens there otherwise: a
// refusal comes at once, silence is waited for.
func answers(t *testing.T, from ns.NetNS, protocol, address string) bool {
	t.Helper()
	answered := false
	err := from.Do(func(ns.NetNS) error {
		conn, err := net.DialTimeout(protocol, address, 2*time.Second)
		if err != nil {
			return nil // no answer
		}
		defer closing(t, conn)
		if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return err
		}
		if protocol == "udp" {
			if _, err := conn.Write([]byte("?")); err != nil {
				return nil // no answer
			}
		}
		answer := make([]byte, 5)
		n, err := conn.Read(answer)
		answered = err == nil && string(answer[:n]) == "guest"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return answered
}

func TestHostPortsReachTheGuestFromOutside(t *testing.T) {
	h := newHost(t)
	client := outside(t)
	req := request()
	req.PortMappings = []vm.PortMapping{
		{Protocol: "tcp", ContainerPort: 80, HostPort: 18090},
		{Protocol: "udp", ContainerPort: 80, HostPort: 18090},
		{Protocol: "tcp", ContainerPort: 80, HostPort: 18091, HostIP: host4},
		{Protocol: "udp", ContainerPort: 80, HostPort: 18092, HostIP: host6},
		{Protocol: "tcp", ContainerPort: 80, HostPort: 18093, HostIP: "127.0.0.1"},
	}
	n, err := h.net.Setup(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	h.startQEMU(t, n)
	if err := h.net.Wire(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	guest := kernelGuest(t, n, h.taps[req.SandboxID][0])
	for _, ip := range n.IPs() {
		serve(t, guest, net.JoinHostPort(ip.String(), "80"))
	}
	here, err := ns.GetCurrentNS()
	if err != nil {
		t.Fatal(err)
	}
	defer closing(t, here)
	for _, tt := range []struct {
		from               ns.NetNS
		protocol, ip, port string
		want               bool
	}{
		{client, "tcp", host4, "18090", true},
		{client, "tcp", host4Other, "18090", true},
		{client, "tcp", host6, "18090", true},
		{client, "udp", host4, "18090", true},
		{client, "udp", host6, "18090", true},
		{here, "tcp", "127.0.0.1", "18090", true},
		{here, "tcp", host6, "18090", true},
		{here, "udp", host4, "18090", true},

		{client, "tcp", host4, "18091", true},
		{client, "tcp", host4Other, "18091", false},
		{client, "tcp", host6, "18091", false},
		{client, "udp", host6, "18092", true},
		{client, "udp", host6Other, "18092", false},
		{client, "udp", host4, "18092", false},
		{here, "tcp", "127.0.0.1", "18093", true},
		{client, "tcp", host4, "18093", false},
		{client, "tcp", host4, "80", false},
	} {
		if got := answers(t, tt.from, tt.protocol, net.JoinHostPort(tt.ip, tt.port)); got != tt.want {
			t.Errorf("%s %s port %s, from outside: %v: the guest answers: %v, want %v", tt.protocol, tt.ip, tt.port, tt.from == client, got, tt.want)
		}
	}
	h.mustTeardown(t, req)
	if answers(t, client, "tcp", net.JoinHostPort(host4, "18090")) {
		t.Error("the guest answers after its sandbox is gone")
	}
}

// The kernels that tests run on have no SCTP sockets: that the plugin takes the mapping,
// and gives it back, is what can be seen.
func TestHostPortsOfSCTP(t *testing.T) {
	h := newHost(t)
	req := request()
	req.PortMappings = []vm.PortMapping{{Protocol: "sctp", ContainerPort: 80, HostPort: 18094}}
	if _, err := h.net.Setup(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	for _, tables := range []string{"iptables-save", "ip6tables-save"} {
		rules, err := exec.Command(tables).Output()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(rules), "-p sctp") || !strings.Contains(string(rules), "18094") {
			t.Errorf("%s has no rule for SCTP:\n%s", tables, rules)
		}
	}
	h.mustTeardown(t, req)
}

// The end of one sandbox leaves another one's mappings alone.
func TestHostPortsOfTwoSandboxes(t *testing.T) {
	h := newHost(t)
	first, second := request(), request()
	first.PortMappings = []vm.PortMapping{{Protocol: "tcp", ContainerPort: 80, HostPort: 18095}}
	second.PortMappings = []vm.PortMapping{{Protocol: "tcp", ContainerPort: 81, HostPort: 18096}}
	if _, err := h.net.Setup(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if _, err := h.net.Setup(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	h.mustTeardown(t, first)
	rules, err := exec.Command("iptables-save").Output()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(rules), "18095") || !strings.Contains(string(rules), "18096") {
		t.Errorf("after the first one's end:\n%s", rules)
	}
	h.mustTeardown(t, second)
}
