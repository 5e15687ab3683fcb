// SPDX-License-Identifier: Apache-2.0

package nics

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// plan is what one interface is to be.
type plan struct {
	mac       net.HardwareAddr
	name      string
	mtu       int
	addresses []*net.IPNet
	ways      []way
	gateways  []net.IP
}

// way is a route that CNI gave; via is nil for what is on the link.
type way struct {
	to          *net.IPNet
	via         net.IP
	mtu, metric int
}

func plansOf(nics []*agentv1.NIC) ([]plan, error) {
	plans := make([]plan, 0, len(nics))
	for _, nic := range nics {
		p, err := planOf(nic)
		if err != nil {
			return nil, fmt.Errorf("NIC %q: %w: %w", nic.GetName(), err, errdefs.ErrInvalidArgument)
		}
		plans = append(plans, p)
	}
	return plans, nil
}

func planOf(nic *agentv1.NIC) (p plan, err error) {
	p.name, p.mtu = nic.GetName(), int(nic.GetMtu())
	if p.name == "" || len(p.name) >= unix.IFNAMSIZ {
		return p, fmt.Errorf("it is no interface's name")
	}
	if p.mac, err = net.ParseMAC(nic.GetMac()); err != nil {
		return p, err
	}
	for _, text := range nic.GetAddresses() {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return p, err
		}
		p.addresses = append(p.addresses, &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: maskOf(prefix)})
	}
	for _, r := range nic.GetRoutes() {
		prefix, err := netip.ParsePrefix(r.GetTo())
		if err != nil {
			return p, err
		}
		w := way{to: netOf(prefix), mtu: int(r.GetMtu()), metric: int(r.GetMetric())}
		if r.GetVia() != "" {
			via, err := netip.ParseAddr(r.GetVia())
			if err != nil {
				return p, err
			}
			w.via = via.AsSlice()
		}
		p.ways = append(p.ways, w)
	}
	for _, text := range nic.GetGateways() {
		gateway, err := netip.ParseAddr(text)
		if err != nil {
			return p, err
		}
		p.gateways = append(p.gateways, gateway.AsSlice())
	}
	return p, nil
}

func maskOf(p netip.Prefix) net.IPMask { return net.CIDRMask(p.Bits(), p.Addr().BitLen()) }

func netOf(p netip.Prefix) *net.IPNet {
	p = p.Masked()
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: maskOf(p)}
}

// firstTable begins the routing tables of interfaces, one each by its index, where nothing else of a guest is.
const firstTable = 0x766d0000

func tableOf(index int) int { return firstTable + index }

// routes are those of the main table, and those of the interface's own, by which packets from its addresses leave: else
// they would leave by the first interface with a way to where they go, and be dropped as not its own.
func (p plan) routes(index int) []netlink.Route {
	var all []netlink.Route
	add := func(table int, w way) {
		r := netlink.Route{LinkIndex: index, Table: table, Dst: w.to, Gw: w.via, MTU: w.mtu, Priority: w.metric, Scope: netlink.SCOPE_UNIVERSE}
		if w.via == nil {
			r.Scope = netlink.SCOPE_LINK
		} else {
			r.Flags = int(netlink.FLAG_ONLINK)
		}
		all = append(all, r)
	}
	for _, w := range p.ways {
		add(unix.RT_TABLE_MAIN, w)
	}
	own := tableOf(index)
	for _, address := range p.addresses {
		network := &net.IPNet{IP: address.IP.Mask(address.Mask), Mask: address.Mask}
		add(own, way{to: network})
	}
	for _, w := range p.ways {
		add(own, w)
	}
	for _, gateway := range p.gateways {
		add(own, way{to: anywhere(gateway), via: gateway})
	}
	return all
}

func anywhere(as net.IP) *net.IPNet {
	if as.To4() != nil {
		return netOf(netip.PrefixFrom(netip.IPv4Unspecified(), 0))
	}
	return netOf(netip.PrefixFrom(netip.IPv6Unspecified(), 0))
}
