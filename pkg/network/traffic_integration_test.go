// SPDX-License-Identifier: Apache-2.0

//go:build integration

package network

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"

	"github.com/vmlet/vmlet/pkg/lifecycle/lifecycletest"
	"github.com/vmlet/vmlet/pkg/network/internal/frame"
	"github.com/vmlet/vmlet/pkg/vm"
)

func TestNetworkKeepsTheContract(t *testing.T) {
	lifecycletest.RunNetwork(t, func(t *testing.T) lifecycletest.NetworkHost {
		t.Helper()
		h := newHost(t)
		return lifecycletest.NetworkHost{
			Network:   h.net,
			StartQEMU: func(t *testing.T, n vm.Network) { t.Helper(); h.startQEMU(t, n) },
			LoseNetNS: func(t *testing.T, id string) {
				t.Helper()
				if err := removeNetNS(h.conf.Paths.SandboxNetNS(id)); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}

// marker is something to know a frame by.
func marker() []byte {
	m := make([]byte, 12)
	_, _ = rand.Read(m)
	return m
}

func TestKernelHoldsTheGuestToItsAddresses(t *testing.T) {
	h := newHost(t)
	n, tap := h.mustStart(t)
	g := h.guestOf(t, n)
	outside := listen(t, hostSide(t, n))
	buf := make([]byte, 65536)
	for _, c := range frame.Cases(g) {
		t.Run(c.Name, func(t *testing.T) {
			mark, end := marker(), marker()
			tap.send(t, append(bytes.Clone(c.Frame), mark...))
			tap.send(t, frame.Ethernet(frame.Broadcast, g.MAC, frame.TypeIP4, frame.IP4(g.IP4, g.Gateway, frame.ProtoUDP, frame.UDP(9, 9, end))))
			passed := false
			for {
				if err := outside.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
					t.Fatal(err)
				}
				size, err := outside.Read(buf)
				if err != nil {
					t.Fatalf("wait for the frame that comes after: %v", err)
				}
				passed = passed || bytes.Contains(buf[:size], mark)
				if bytes.Contains(buf[:size], end) {
					break
				}
			}
			if passed != c.Passes {
				t.Errorf("passes = %v, want %v", passed, c.Passes)
			}
		})
	}
	h.mustTeardown(t, n.Request)
}

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

func TestEveryKindOfFrameReachesTheGuest(t *testing.T) {
	h := newHost(t)
	n, tap := h.mustStart(t)
	g, bridge := h.guestOf(t, n), h.bridgeDevice(t)
	host := listen(t, bridge.Attrs().Index)
	from := bridge.Attrs().HardwareAddr
	group := net.HardwareAddr{1, 0, 0x5e, 0, 0, 0xfb}
	for name, f := range map[string]func(payload []byte) []byte{
		"unicast":   func(p []byte) []byte { return frame.Ethernet(g.MAC, from, 0x88b5, p) },
		"broadcast": func(p []byte) []byte { return frame.Ethernet(frame.Broadcast, from, 0x88b5, p) },
		"multicast": func(p []byte) []byte { return frame.Ethernet(group, from, 0x88b5, p) },
		"IPv6": func(p []byte) []byte {
			return frame.Ethernet(g.MAC, from, frame.TypeIP6, frame.IP6(g.Gateway6, g.IP6, 59, p))
		},
		"tagged": func(p []byte) []byte { return frame.Tagged(g.MAC, from, 5, frame.TypeIP4, p) },
	} {
		t.Run(name, func(t *testing.T) {
			mark := append(marker(), make([]byte, 40)...)
			want := f(mark)
			if _, err := host.Write(want); err != nil {
				t.Fatal(err)
			}
			if got := tap.expect(t, mark); !bytes.Equal(got, want) {
				t.Errorf("frame\n%x, want\n%x", got, want)
			}
		})
	}
	h.mustTeardown(t, n.Request)
}

func TestTCPBothWays(t *testing.T) {
	h := newHost(t)
	n, tap := h.mustStart(t)
	guest := kernelGuest(t, n, tap)
	here, err := ns.GetCurrentNS()
	if err != nil {
		t.Fatal(err)
	}
	defer closing(t, here)
	for _, ip := range n.IPs() {
		exchange(t, here, listenIn(t, guest, net.JoinHostPort(ip.String(), "80")))
	}
	for _, gateway := range []string{h.gateway4, h.gateway6} {
		exchange(t, guest, listenIn(t, here, net.JoinHostPort(gateway, "8080")))
	}
	stats, err := h.net.Stats(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	if s := stats[0]; s.RxBytes < 2*bulk || s.TxBytes < 2*bulk {
		t.Errorf("counters %+v, want at least %d bytes each way", s, 2*bulk)
	}
	mustBeHome(t)
	h.mustTeardown(t, n.Request)
}

// bulk is many times what a window or a device's queue holds.
const bulk = 4 << 20

// exchange sends a bulk to the listener, which sends it back.
func exchange(t *testing.T, from ns.NetNS, l net.Listener) {
	t.Helper()
	echoed := make(chan error, 1)
	go func() { echoed <- echo(l) }()
	conn := dialIn(t, from, l.Addr().String())
	defer closing(t, conn)
	if err := conn.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, bulk)
	_, _ = rand.Read(data)
	written := make(chan error, 1)
	go func() {
		_, err := conn.Write(data)
		written <- err
	}()
	back := make([]byte, bulk)
	if _, err := io.ReadFull(conn, back); err != nil {
		t.Fatalf("%s: %v", l.Addr(), err)
	}
	if err := errors.Join(<-written, <-echoed); err != nil {
		t.Errorf("%s: %v", l.Addr(), err)
	}
	if !bytes.Equal(data, back) {
		t.Errorf("%s: the data came back changed", l.Addr())
	}
}

// echo sends a bulk back to the first caller.
func echo(l net.Listener) error {
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	_, err = io.CopyN(conn, conn, bulk)
	return errors.Join(err, conn.Close())
}

func TestGuestsReachEachOther(t *testing.T) {
	for _, plugin := range []string{"bridge", "ptp"} {
		t.Run(plugin, func(t *testing.T) {
			h := newHost(t)
			h.configure(t, plugin, "")
			if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
				t.Fatal(err)
			}
			a, tapA := h.mustStart(t)
			b, tapB := h.mustStart(t)
			guestA, guestB := kernelGuest(t, a, tapA), kernelGuest(t, b, tapB)
			exchange(t, guestA, listenIn(t, guestB, net.JoinHostPort(b.IPs()[0].String(), "80")))
			h.mustTeardown(t, a.Request)
			h.mustTeardown(t, b.Request)
		})
	}
}

func TestHostPortReachesTheGuest(t *testing.T) {
	h := newHost(t)
	req := request()
	req.PortMappings = []vm.PortMapping{{Protocol: "tcp", ContainerPort: 80, HostPort: 18080}}
	n, err := h.net.Setup(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	h.startQEMU(t, n)
	if err := h.net.Wire(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	guest := kernelGuest(t, n, h.taps[req.SandboxID][0])
	l := listenIn(t, guest, net.JoinHostPort(n.IPs()[0].String(), "80"))
	answered := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = conn.Close()
		}
		answered <- err
	}()
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(h.gateway4, "18080"), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	closing(t, conn)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	h.mustTeardown(t, req)
}

func TestNewQEMUTakesTheFormersPlace(t *testing.T) {
	h := newHost(t)
	n, former := h.mustStart(t)
	g := h.guestOf(t, n)
	// The former QEMU is not quite gone yet: its tap is still in the sandbox's namespace.
	newer := openTap(t, n.NICs[0].Tap)
	h.taps[n.Request.SandboxID] = append(h.taps[n.Request.SandboxID], newer)
	for range 2 {
		if err := h.net.Wire(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	bridge := h.bridgeDevice(t)
	question := probes(g, bridge.Attrs().HardwareAddr)["ARP"]
	if _, err := listen(t, bridge.Attrs().Index).Write(question); err != nil {
		t.Fatal(err)
	}
	newer.expect(t, question[14:])
	outside := listen(t, hostSide(t, n))
	mark := marker()
	newer.send(t, frame.Ethernet(frame.Broadcast, g.MAC, frame.TypeIP4, frame.IP4(g.IP4, g.Gateway, frame.ProtoUDP, frame.UDP(9, 9, mark))))
	mustRead(t, outside, mark)
	if _, err := former.Write(question); err == nil {
		t.Error("the former tap still takes frames")
	}
	h.mustTeardown(t, n.Request)
}
