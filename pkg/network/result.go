// SPDX-License-Identifier: Apache-2.0

package network

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/vm"
)

// nicOf makes the guest's NIC of what the plugins said and what they did. The result has
// the last word on addresses. Plugins are less careful with the rest, as containers do not
// depend on it: MAC, MTU and routes are those of the interface itself.
func nicOf(result *types100.Result, l *link, tap string) (vm.NIC, error) {
	nic := vm.NIC{Name: l.Name, Tap: tap, MAC: l.MAC, MTU: l.MTU}
	for i, ip := range result.IPs {
		ours, err := belongs(result, ip, l.Name)
		if err != nil {
			return vm.NIC{}, fmt.Errorf("CNI result: address %d: %w", i, err)
		}
		if !ours {
			continue
		}
		prefix, ok := prefixOf(&ip.Address)
		if addr := prefix.Addr(); !ok || addr.IsUnspecified() || addr.IsMulticast() || addr.IsLoopback() {
			return vm.NIC{}, fmt.Errorf("CNI result: address %d: %q cannot be an interface's", i, ip.Address.String())
		}
		nic.IPs = append(nic.IPs, vm.NICAddress{Prefix: l.asRouted(prefix), Gateway: addrOf(ip.Gateway)})
	}
	if len(nic.IPs) == 0 {
		return vm.NIC{}, fmt.Errorf("CNI result: no address for interface %s", l.Name)
	}
	nic.Routes = routesOf(result, nic.IPs, l)
	return nic, nil
}

// belongs tells whether an address is on the sandbox's interface. An address that names no
// interface is, and so is one where the result describes no interface in the sandbox at
// all (Calico lists its host side only).
func belongs(result *types100.Result, ip *types100.IPConfig, name string) (bool, error) {
	if ip.Interface == nil {
		return true, nil
	}
	i := *ip.Interface
	if i < 0 || i >= len(result.Interfaces) {
		return false, fmt.Errorf("is on interface %d of %d", i, len(result.Interfaces))
	}
	inSandbox := func(dev *types100.Interface) bool { return dev != nil && dev.Sandbox != "" }
	if !slices.ContainsFunc(result.Interfaces, inSandbox) {
		return true, nil
	}
	return inSandbox(result.Interfaces[i]) && result.Interfaces[i].Name == name, nil
}

// asRouted is the prefix that gives the guest the routes its interface has here: where a
// plugin took the network of an address off the link (ptp does, neighbours are reached
// through the host), the guest must not look for neighbours on the link either.
func (l *link) asRouted(prefix netip.Prefix) netip.Prefix {
	if slices.Contains(l.Addrs, prefix) && !slices.Contains(l.Connected, prefix.Masked()) {
		return netip.PrefixFrom(prefix.Addr(), prefix.Addr().BitLen())
	}
	return prefix
}

// routesOf are the interface's routes, and those of the result that it does not have, in
// case a plugin leaves it to the guest to set up what it says; those on the link come first.
// There is no default route but one that somebody asked for: a gateway beside an address is
// not one.
func routesOf(result *types100.Result, ips []vm.NICAddress, l *link) []vm.Route {
	routes := slices.Clone(l.Routes)
	for _, r := range result.Routes {
		to, ok := prefixOf(&r.Dst)
		if !ok || r.Table != nil && *r.Table != unix.RT_TABLE_MAIN {
			continue
		}
		there := func(have vm.Route) bool { return have.To == to.Masked() }
		if slices.ContainsFunc(routes, there) || slices.Contains(l.Connected, to.Masked()) {
			continue
		}
		routes = append(routes, vm.Route{To: to.Masked(), Via: nextHop(r, to, ips), MTU: r.MTU, Metric: r.Priority})
	}
	// A simple guest adds one after the other: next hops must be reachable by then.
	slices.SortStableFunc(routes, func(a, b vm.Route) int { return linkFirst(a) - linkFirst(b) })
	return routes
}

func linkFirst(r vm.Route) int {
	if r.Via.IsValid() {
		return 1
	}
	return 0
}

// nextHop is the route's own, or else the gateway of the first address of its family (CNI
// SPEC, "ADD Success"); none for a route that says it is on the link.
func nextHop(r *types.Route, to netip.Prefix, ips []vm.NICAddress) netip.Addr {
	if gw := addrOf(r.GW); gw.IsValid() {
		return gw
	}
	if r.Scope != nil && *r.Scope == unix.RT_SCOPE_LINK {
		return netip.Addr{}
	}
	for _, ip := range ips {
		if ip.Gateway.IsValid() && ip.Gateway.Is4() == to.Addr().Is4() {
			return ip.Gateway
		}
	}
	return netip.Addr{}
}

// dnsOf converts what plugins say about DNS. A domain is, as in resolv.conf, the first to
// search.
func dnsOf(dns types.DNS) vm.DNSConfig {
	searches := dns.Search
	if dns.Domain != "" && !slices.Contains(searches, dns.Domain) {
		searches = append([]string{dns.Domain}, searches...)
	}
	return vm.DNSConfig{Servers: dns.Nameservers, Searches: searches, Options: dns.Options}
}
