// SPDX-License-Identifier: Apache-2.0

package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/vm"
)

// link is an interface as it stands in a sandbox's netns after ADD.
type link struct {
	Name  string
	MAC   string
	MTU   int
	Addrs []netip.Prefix
	// Connected are the networks that the kernel finds on the link by itself; Routes are
	// what somebody added.
	Connected []netip.Prefix
	Routes    []vm.Route
}

// readLink reads an interface. NotFound if the namespace has none of that name.
func readLink(netns ns.NetNS, name string) (*link, error) {
	h, err := linksIn(netns)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	dev, err := h.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, fmt.Errorf("no interface %s in the netns: %w", name, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read interface %s: %w", name, err)
	}
	out := &link{Name: name, MAC: dev.Attrs().HardwareAddr.String(), MTU: dev.Attrs().MTU}
	addrs, err := h.AddrList(dev, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("read addresses of %s: %w", name, err)
	}
	for _, a := range addrs {
		if prefix, ok := prefixOf(a.IPNet); ok {
			out.Addrs = append(out.Addrs, prefix)
		}
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := h.RouteList(dev, family)
		if err != nil {
			return nil, fmt.Errorf("read routes of %s: %w", name, err)
		}
		for _, r := range routes {
			out.take(r, family)
		}
	}
	return out, nil
}

// take sorts one route of the main table into Connected or Routes. What the kernel does for
// every interface (link-local and multicast networks) is left out: the guest's does it too.
func (l *link) take(r netlink.Route, family int) {
	to, ok := prefixOf(r.Dst)
	if r.Dst == nil {
		to, ok = defaultRoute(family), true
	}
	if !ok || r.Type != unix.RTN_UNICAST || to.Addr().IsLinkLocalUnicast() && r.Protocol == unix.RTPROT_KERNEL {
		return
	}
	if r.Protocol == unix.RTPROT_KERNEL {
		l.Connected = append(l.Connected, to)
		return
	}
	route := vm.Route{To: to, Via: addrOf(r.Gw), MTU: r.MTU, Metric: r.Priority}
	if via, ok := r.Via.(*netlink.Via); ok { // an IPv4 network behind an IPv6 router
		route.Via = addrOf(via.Addr)
	}
	if family == netlink.FAMILY_V6 && route.Metric == defaultMetricIP6 {
		route.Metric = 0
	}
	l.Routes = append(l.Routes, route)
}

// defaultMetricIP6 is what the kernel makes of an IPv6 route without a metric.
const defaultMetricIP6 = 1024

func defaultRoute(family int) netip.Prefix {
	if family == netlink.FAMILY_V6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// addrOf converts an address; the zero Addr stands for none.
func addrOf(ip net.IP) netip.Addr {
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}

// prefixOf converts an address with its mask; false if it is not one.
func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr := addrOf(n.IP)
	ones, bits := n.Mask.Size()
	if addr.Is4() && bits == 128 {
		ones -= 96
	}
	if !addr.IsValid() || bits == 0 || ones < 0 || ones > addr.BitLen() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(addr, ones), true
}
