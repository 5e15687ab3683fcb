// SPDX-License-Identifier: Apache-2.0

//go:build integration

package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/vmlet/vmlet/pkg/network/internal/frame"
	"github.com/vmlet/vmlet/pkg/vm"
)

// probes are frames from the host's side that a living stack would answer.
func probes(g frame.Guest, from net.HardwareAddr) map[string][]byte {
	udp := frame.UDP(9, 9, []byte("anybody?"))
	echo := frame.ICMP(8, []byte{0, 1, 0, 1})
	echo6 := frame.ICMP6(g.Gateway6, g.IP6, 128, []byte{0, 1, 0, 1})
	v4 := func(proto byte, payload []byte) []byte {
		return frame.Ethernet(g.MAC, from, frame.TypeIP4, frame.IP4(g.Gateway, g.IP4, proto, payload))
	}
	return map[string][]byte{
		"ARP":       frame.Ethernet(frame.Broadcast, from, frame.TypeARP, frame.ARP(frame.Request, from, g.Gateway, make(net.HardwareAddr, 6), g.IP4)),
		"ping":      v4(frame.ProtoICMP, echo),
		"TCP":       v4(frame.ProtoTCP, frame.SYN(g.Gateway, g.IP4, 4000, 80)),
		"UDP":       v4(frame.ProtoUDP, udp),
		"neighbour": frame.Ethernet(g.MAC, from, frame.TypeIP6, frame.Neighbour(g.Gateway6, g.IP6, 135, g.IP6, frame.MACOption(1, from))),
		"ping6":     frame.Ethernet(g.MAC, from, frame.TypeIP6, frame.IP6(g.Gateway6, g.IP6, frame.ProtoICMP6, echo6)),
	}
}

// probe sends a frame to the sandbox and tells how many the sandbox sent after it arrived.
func probe(t *testing.T, n vm.Network, from *os.File, f []byte) uint64 {
	t.Helper()
	received, sent := counters(t, n)
	if _, err := from.Write(f); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the probe arrives", func() string {
		if now, _ := counters(t, n); now > received {
			return ""
		}
		return "not there"
	})
	time.Sleep(20 * time.Millisecond) // an answer comes from the same interrupt, if it comes
	_, now := counters(t, n)
	return now - sent
}

func TestNobodyAnswersForAGuestThatIsDown(t *testing.T) {
	h := newHost(t)
	n := h.mustSetup(t)
	g, bridge := h.guestOf(t, n), h.bridgeDevice(t)
	from := listen(t, bridge.Attrs().Index)
	silent := func(state string) {
		t.Helper()
		for name, f := range probes(g, bridge.Attrs().HardwareAddr) {
			if sent := probe(t, n, from, f); sent > 0 {
				t.Errorf("%s: %s is answered with %d frames", state, name, sent)
			}
		}
		if err := h.net.Check(t.Context(), n); err != nil {
			t.Errorf("%s: %v", state, err)
		}
	}
	silent("before there is a guest")

	h.startQEMU(t, n)
	if err := h.net.Wire(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	silent("while the guest is deaf")

	h.stopQEMU(t, n)
	silent("after the guest has gone")

	// The table at the interface gone too: the stack is mute by itself.
	nft(t, n, "delete table netdev vmlet")
	silent("without the interface's rules")

	// What the probes are worth: without our tables every one of them is answered.
	nft(t, n, "flush ruleset")
	for name, f := range probes(g, bridge.Attrs().HardwareAddr) {
		if probe(t, n, from, f) == 0 {
			t.Errorf("%s is not answered by a living stack: the test is blind", name)
		}
	}
	h.mustTeardown(t, n.Request)
}

func nft(t *testing.T, n vm.Network, command string) {
	t.Helper()
	inside(t, n, func() error {
		out, err := exec.Command("nft", command).CombinedOutput()
		if err != nil {
			return fmt.Errorf("nft %s: %w: %s", command, err, out)
		}
		return nil
	})
}

func TestNetNSDoesNotSpeakByItself(t *testing.T) {
	h := newHost(t)
	n := h.mustSetup(t)
	_, before := counters(t, n)
	// What makes a stack talk: a link that comes up, an address, a neighbour to find.
	inside(t, n, func() error {
		dev, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		for _, talkative := range []string{"ipv4/conf/eth0/arp_notify", "ipv6/conf/eth0/ndisc_notify", "ipv6/conf/eth0/accept_dad"} {
			if err := os.WriteFile("/proc/sys/net/"+talkative, []byte("1"), 0); err != nil {
				return err
			}
		}
		second := &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("fd00:5::5/64"))} // with DAD and MLD
		if err := netlink.AddrAdd(dev, second); err != nil {
			return err
		}
		if err := netlink.LinkSetDown(dev); err != nil {
			return err
		}
		if err := netlink.LinkSetUp(dev); err != nil {
			return err
		}
		conn, err := net.Dial("udp", net.JoinHostPort(strings.TrimSuffix(h.gateway4, ".1")+".77", "9"))
		if err != nil {
			return err
		}
		defer closing(t, conn)
		if _, err := conn.Write([]byte("anybody?")); err == nil {
			return errors.New("a packet went out")
		}
		return nil
	})
	// DAD speaks after a random delay of up to a second.
	time.Sleep(1500 * time.Millisecond)
	if _, after := counters(t, n); after != before {
		t.Errorf("the netns sent %d frames", after-before)
	}
	h.mustTeardown(t, n.Request)
}

func TestNetNSLearnsNothing(t *testing.T) {
	h := newHost(t)
	n := h.mustSetup(t)
	g, bridge := h.guestOf(t, n), h.bridgeDevice(t)
	from := listen(t, bridge.Attrs().Index)
	mac := bridge.Attrs().HardwareAddr
	router, all := linkLocal(mac), netip.MustParseAddr("ff02::1")
	prefix := append([]byte{3, 4, 64, 0xc0, 0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0xfd, 0, 0, 0x77}, make([]byte, 12)...)
	advert := append([]byte{64, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0}, prefix...)
	lessons := map[string][]byte{
		"ARP":                  probes(g, mac)["ARP"],
		"router advertisement": frame.Ethernet(frame.Broadcast, mac, frame.TypeIP6, frame.IP6(router, all, frame.ProtoICMP6, frame.ICMP6(router, all, 134, advert))),
	}
	nft(t, n, "delete table netdev vmlet") // as before the interface is closed
	for name, f := range lessons {
		before := knowledge(t, n)
		probe(t, n, from, f)
		if after := knowledge(t, n); after != before {
			t.Errorf("from the %s the netns learned:\n%s\nbefore:\n%s", name, after, before)
		}
	}
	nft(t, n, "flush ruleset")
	for name, f := range lessons {
		before := knowledge(t, n)
		probe(t, n, from, f)
		if knowledge(t, n) == before {
			t.Errorf("from the %s a living stack learned nothing: the test is blind", name)
		}
	}
	h.mustTeardown(t, n.Request)
}

// knowledge is what the namespace's stack knows of the network.
func knowledge(t *testing.T, n vm.Network) string {
	t.Helper()
	var known strings.Builder
	inside(t, n, func() error {
		for _, what := range [][]string{{"-o", "addr", "show", "eth0"}, {"-4", "route"}, {"-6", "route"}, {"neigh"}} {
			out, err := exec.Command("ip", what...).Output()
			if err != nil {
				return err
			}
			for line := range strings.Lines(string(out)) {
				line, _, _ = strings.Cut(line, "valid_lft")
				line, _, _ = strings.Cut(line, "expires")
				known.WriteString(strings.TrimSpace(line) + "\n")
			}
		}
		return nil
	})
	return known.String()
}

func TestOnlyTheGuestAnswersARP(t *testing.T) {
	h := newHost(t)
	n, tap := h.mustStart(t)
	g, bridge := h.guestOf(t, n), h.bridgeDevice(t)
	host := listen(t, bridge.Attrs().Index)
	question := probes(g, bridge.Attrs().HardwareAddr)["ARP"]
	if sent := probe(t, n, host, question); sent > 0 {
		t.Errorf("%d answers before the guest's", sent)
	}
	asked := tap.expect(t, question[14:])
	tap.send(t, frame.Ethernet(net.HardwareAddr(asked[6:12]), g.MAC, frame.TypeARP, frame.ARP(frame.Reply, g.MAC, g.IP4, net.HardwareAddr(asked[6:12]), g.Gateway)))
	mustRead(t, host, frame.ARP(frame.Reply, g.MAC, g.IP4, bridge.Attrs().HardwareAddr, g.Gateway))
	h.mustTeardown(t, n.Request)
}
