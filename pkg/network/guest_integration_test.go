// SPDX-License-Identifier: Apache-2.0

//go:build integration

package network

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/network/internal/frame"
	"github.com/vmlet/vmlet/pkg/vm"
)

// tap is a tap with this process in the place of QEMU.
type tap struct{ *os.File }

// openTap makes a tap in the host's namespace.
func openTap(tb testing.TB, name string) *tap {
	tb.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		tb.Fatal(err)
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		tb.Fatalf("make tap %s: %v", name, err)
	}
	return &tap{os.NewFile(uintptr(fd), name)}
}

// closing closes what a test does not need any more; some have closed it before.
func closing(tb testing.TB, c io.Closer) {
	tb.Helper()
	if err := c.Close(); err != nil && !errors.Is(err, os.ErrClosed) && !errors.Is(err, net.ErrClosed) {
		tb.Error(err)
	}
}

// startQEMU makes the taps of a sandbox anew.
func (h *host) startQEMU(tb testing.TB, n vm.Network) {
	tb.Helper()
	h.stopQEMU(tb, n)
	for _, nic := range n.NICs {
		h.taps[n.Request.SandboxID] = append(h.taps[n.Request.SandboxID], openTap(tb, nic.Tap))
	}
}

func (h *host) stopQEMU(tb testing.TB, n vm.Network) {
	tb.Helper()
	for _, tap := range h.taps[n.Request.SandboxID] {
		if err := tap.Close(); err != nil {
			tb.Fatal(err)
		}
	}
	delete(h.taps, n.Request.SandboxID)
}

// mustStart sets a sandbox up and wires a guest to it.
func (h *host) mustStart(tb testing.TB) (vm.Network, *tap) {
	tb.Helper()
	n := h.mustSetup(tb)
	h.startQEMU(tb, n)
	if err := h.net.Wire(tb.Context(), n); err != nil {
		tb.Fatal(err)
	}
	return n, h.taps[n.Request.SandboxID][0]
}

func (tp *tap) send(tb testing.TB, f []byte) {
	tb.Helper()
	if _, err := tp.Write(f); err != nil {
		tb.Fatal(err)
	}
}

// expect reads until a frame holds what is looked for.
func (tp *tap) expect(tb testing.TB, what []byte) []byte {
	tb.Helper()
	return mustRead(tb, tp.File, what)
}

func mustRead(tb testing.TB, from *os.File, what []byte) []byte {
	tb.Helper()
	if err := from.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		tb.Fatal(err)
	}
	buf := make([]byte, 65536)
	for {
		n, err := from.Read(buf)
		if err != nil {
			tb.Fatalf("%s: wait for a frame with %x: %v", from.Name(), what, err)
		}
		if bytes.Contains(buf[:n], what) {
			return slices.Clone(buf[:n])
		}
	}
}

// guestOf is the guest of a sandbox, as the frames name it.
func (h *host) guestOf(tb testing.TB, n vm.Network) frame.Guest {
	tb.Helper()
	nic := n.NICs[0]
	mac, err := net.ParseMAC(nic.MAC)
	if err != nil {
		tb.Fatal(err)
	}
	return frame.Guest{
		MAC: mac, IP4: nic.IPs[0].Prefix.Addr(), IP6: nic.IPs[1].Prefix.Addr(), LinkLocal: linkLocal(mac),
		Gateway: netip.MustParseAddr(h.gateway4), Gateway6: netip.MustParseAddr(h.gateway6),
	}
}

// listen opens a raw socket on an interface of the host: it reads what comes in and goes
// out there, before any filter, and writes frames.
func listen(tb testing.TB, index int) *os.File {
	tb.Helper()
	all := int(uint16(unix.ETH_P_ALL)>>8 | uint16(unix.ETH_P_ALL)<<8)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, all)
	if err != nil {
		tb.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: index}); err != nil {
		tb.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "raw socket")
	tb.Cleanup(func() { closing(tb, f) })
	return f
}

// hostSide is the index of the host's end of the sandbox's interface.
func hostSide(tb testing.TB, n vm.Network) int {
	tb.Helper()
	var index int
	inside(tb, n, func() error {
		dev, err := netlink.LinkByName("eth0")
		if err == nil {
			index = dev.Attrs().ParentIndex
		}
		return err
	})
	return index
}

func (h *host) bridgeDevice(tb testing.TB) netlink.Link {
	tb.Helper()
	dev, err := netlink.LinkByName(h.bridge)
	if err != nil {
		tb.Fatal(err)
	}
	return dev
}

// counters are the packets that the sandbox's eth0 has received and sent.
func counters(tb testing.TB, n vm.Network) (received, sent uint64) {
	tb.Helper()
	inside(tb, n, func() error {
		dev, err := netlink.LinkByName("eth0")
		if err == nil {
			received, sent = dev.Attrs().Statistics.RxPackets, dev.Attrs().Statistics.TxPackets
		}
		return err
	})
	return received, sent
}

// kernelGuest gives a tap a guest with a real stack: a network namespace whose interface has
// the NIC's MAC and addresses, and frames carried between the two.
func kernelGuest(tb testing.TB, n vm.Network, wired *tap) ns.NetNS {
	tb.Helper()
	guest, err := ns.TempNetNS()
	if err != nil {
		tb.Fatal(err)
	}
	nic := openTap(tb, "guest0")
	dev, err := netlink.LinkByName("guest0")
	if err != nil {
		tb.Fatal(err)
	}
	if err := netlink.LinkSetNsFd(dev, int(guest.Fd())); err != nil {
		tb.Fatal(err)
	}
	if err := guest.Do(func(ns.NetNS) error { return configureGuest(n.NICs[0]) }); err != nil {
		tb.Fatal(err)
	}
	done := make(chan struct{}, 2)
	for _, way := range [][2]*tap{{nic, wired}, {wired, nic}} {
		go func() {
			defer func() { done <- struct{}{} }()
			carry(way[0], way[1])
		}()
	}
	tb.Cleanup(func() {
		closing(tb, nic)
		closing(tb, wired)
		<-done
		<-done
		closing(tb, guest)
	})
	return guest
}

// carry copies frames until an end is closed. A frame that the other end cannot take at
// the moment is lost, as on a wire.
func carry(from, to *tap) {
	buf := make([]byte, 65536)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if _, err := to.Write(buf[:n]); errors.Is(err, os.ErrClosed) {
			return
		}
	}
}

func configureGuest(nic vm.NIC) error {
	dev, err := netlink.LinkByName("guest0")
	if err != nil {
		return err
	}
	mac, err := net.ParseMAC(nic.MAC)
	if err != nil {
		return err
	}
	err = errors.Join(netlink.LinkSetHardwareAddr(dev, mac), netlink.LinkSetMTU(dev, nic.MTU), netlink.LinkSetUp(dev))
	for _, ip := range nic.IPs {
		address := &netlink.Addr{IPNet: ipNet(ip.Prefix), Flags: unix.IFA_F_NODAD}
		err = errors.Join(err, netlink.AddrAdd(dev, address))
	}
	for _, r := range nic.Routes {
		route := &netlink.Route{LinkIndex: dev.Attrs().Index, Dst: ipNet(r.To), Gw: r.Via.AsSlice()}
		if !r.Via.IsValid() {
			route.Scope = netlink.SCOPE_LINK
		}
		err = errors.Join(err, netlink.RouteAdd(route))
	}
	return err
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// listenIn opens a TCP listener in a namespace.
func listenIn(tb testing.TB, space ns.NetNS, address string) net.Listener {
	tb.Helper()
	var l net.Listener
	err := space.Do(func(ns.NetNS) (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { closing(tb, l) })
	return l
}

// dialIn opens a TCP connection from a namespace. The address is numeric: a name would be
// looked up on another thread.
func dialIn(tb testing.TB, space ns.NetNS, address string) net.Conn {
	tb.Helper()
	var conn net.Conn
	err := space.Do(func(ns.NetNS) (err error) {
		conn, err = net.DialTimeout("tcp", address, 10*time.Second)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return conn
}
