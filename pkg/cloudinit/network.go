// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// networkConfig is the file network-config, version 2. cloud-init hands it to netplan as
// it is, or renders it for ifupdown, sysconfig, networkd or NetworkManager; so only what
// all of them take, or ignore, may stand in it.
//
// There is no dhcp4 or dhcp6: off is their default, and older cloud-init turned DHCP on
// for whoever named the key, with false too. The gateways are routes, since gateway4 and
// gateway6 cannot say on-link. (::/0 needs cloud-init 23.1 in guests without netplan.)
type networkConfig struct {
	Version   int                 `yaml:"version"`
	Ethernets map[string]ethernet `yaml:"ethernets"`
}

// ethernet is one NIC. The addresses are CNI's to give: a router's advertisement must
// not add others, which the host would drop.
type ethernet struct {
	Match       match        `yaml:"match"`
	SetName     text         `yaml:"set-name"`
	MTU         int          `yaml:"mtu,omitempty"`
	AcceptRA    bool         `yaml:"accept-ra"`
	Addresses   []text       `yaml:"addresses,omitempty"`
	Nameservers *nameservers `yaml:"nameservers,omitempty"`
	Routes      []route      `yaml:"routes,omitempty"`
}

type match struct {
	MACAddress text `yaml:"macaddress"`
}

type nameservers struct {
	Addresses []text `yaml:"addresses,omitempty"`
	Search    []text `yaml:"search,omitempty"`
}

type route struct {
	To     text `yaml:"to"`
	Via    text `yaml:"via"`
	OnLink bool `yaml:"on-link,omitempty"`
	Scope  text `yaml:"scope,omitempty"`
	Metric int  `yaml:"metric,omitempty"`
	MTU    int  `yaml:"mtu,omitempty"`
}

// newNetworkConfig gives the resolvers to the first NIC: guests merge those of all.
func newNetworkConfig(nics []vm.NIC, dns vm.DNSConfig) (networkConfig, error) {
	config := networkConfig{Version: 2, Ethernets: map[string]ethernet{}}
	for i, nic := range nics {
		e, err := newEthernet(nic)
		if err != nil {
			return networkConfig{}, fmt.Errorf("NIC %q: %w", nic.Name, err)
		}
		if _, taken := config.Ethernets[nic.Name]; taken {
			return networkConfig{}, fmt.Errorf("two NICs named %q: %w", nic.Name, errdefs.ErrInvalidArgument)
		}
		if i == 0 {
			if e.Nameservers, err = newNameservers(dns); err != nil {
				return networkConfig{}, err
			}
		}
		config.Ethernets[nic.Name] = e
	}
	return config, nil
}

func newEthernet(nic vm.NIC) (ethernet, error) {
	if nic.Name == "" {
		return ethernet{}, fmt.Errorf("no name: %w", errdefs.ErrInvalidArgument)
	}
	mac, err := net.ParseMAC(nic.MAC)
	if err != nil || len(mac) != 6 {
		return ethernet{}, fmt.Errorf("%q is no MAC address: %w", nic.MAC, errdefs.ErrInvalidArgument)
	}
	// String gives the lower-case form, the only one that cloud-init matches.
	e := ethernet{Match: match{MACAddress: text(mac.String())}, SetName: text(nic.Name), MTU: nic.MTU}
	for _, ip := range nic.IPs {
		if !ip.Prefix.IsValid() {
			return ethernet{}, fmt.Errorf("an address is not valid: %w", errdefs.ErrInvalidArgument)
		}
		e.Addresses = append(e.Addresses, text(ip.Prefix.String()))
	}
	for _, r := range nic.Routes {
		if !r.To.IsValid() {
			return ethernet{}, fmt.Errorf("a route's destination is not valid: %w", errdefs.ErrInvalidArgument)
		}
		// netplan would refuse the whole file.
		if r.Via.IsValid() && r.Via.Is4() != r.To.Addr().Is4() {
			return ethernet{}, fmt.Errorf("the route to %s has the router %s, of another IP version: %w", r.To, r.Via, errdefs.ErrInvalidArgument)
		}
		e.Routes = append(e.Routes, newRoute(r, nic.IPs))
	}
	return e, nil
}

// newRoute writes a route. One without a gateway still gets a via, the unspecified
// address, which networkd, NetworkManager and, for IPv4, the kernel take for none: without
// it cloud-init's renderers for ifupdown and sysconfig fail on the whole file.
func newRoute(r vm.Route, addresses []vm.NICAddress) route {
	out := route{To: text(r.To.Masked().String()), Metric: r.Metric, MTU: r.MTU}
	switch {
	case r.Via.IsValid():
		out.Via = text(r.Via.String())
		out.OnLink = !reachable(r.Via, addresses)
	case r.To.Addr().Is4():
		out.Via, out.Scope = text(netip.IPv4Unspecified().String()), "link"
	default:
		out.Via, out.Scope = text(netip.IPv6Unspecified().String()), "link"
	}
	return out
}

// reachable reports whether the gateway lies in a subnet of the NIC. Where it does not, as
// with /32 addresses, kernels refuse the route unless told that it is on the link.
func reachable(gateway netip.Addr, addresses []vm.NICAddress) bool {
	if gateway.IsLinkLocalUnicast() && gateway.Is6() {
		return true // fe80::/64 is on every link
	}
	for _, a := range addresses {
		if a.Prefix.Contains(gateway) {
			return true
		}
	}
	return false
}

// newNameservers refuses what is no address: netplan would refuse the whole file, and the
// guest would come up without network.
func newNameservers(dns vm.DNSConfig) (*nameservers, error) {
	if len(dns.Servers) == 0 && len(dns.Searches) == 0 {
		return nil, nil
	}
	for _, s := range dns.Servers {
		if _, err := netip.ParseAddr(s); err != nil {
			return nil, fmt.Errorf("DNS server %q is no IP address: %w", s, errdefs.ErrInvalidArgument)
		}
	}
	return &nameservers{Addresses: texts(dns.Servers), Search: texts(dns.Searches)}, nil
}
