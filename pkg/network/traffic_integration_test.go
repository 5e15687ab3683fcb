// SPDX-License-Identifier: Apache-2.0

//go:build integration

package network

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"

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
