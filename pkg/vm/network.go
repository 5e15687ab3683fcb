// SPDX-License-Identifier: Apache-2.0

package vm

import "net/netip"

// NetworkRequest is what CNI needs to know to attach a sandbox. The same request is
// used for ADD, CHECK and DEL: a DEL with other arguments leaks what the ADD made.
type NetworkRequest struct {
	SandboxID    string        `json:"sandboxID"`
	Name         string        `json:"name"`
	Namespace    string        `json:"namespace"`
	UID          string        `json:"uid"`
	PortMappings []PortMapping `json:"portMappings,omitempty"`
	DNS          DNSConfig     `json:"dns"`
	// MAC and IPs are asked of the network, which may give others. IPs are as in NICSpec.
	MAC string   `json:"mac,omitempty"`
	IPs []string `json:"ips,omitempty"`
	// Args are told to the plugins as they are, also of NICs that are attached later, but for what those say themselves.
	Args map[string]string `json:"args,omitempty"`
}

// Network is a sandbox's network as CNI gave it.
type Network struct {
	// Request is what the ADD was called with; the DEL must see the same.
	Request NetworkRequest `json:"request"`
	// NetNS is the path of the network namespace's bind mount.
	NetNS string `json:"netns"`
	// NICs are the interfaces that the ADD made. What is attached later is in SandboxStatus.NICs.
	NICs []NIC `json:"nics"`
	// DNS is what the CNI plugins answered, empty if they said nothing.
	DNS DNSConfig `json:"dns"`
}

// NIC is one interface: a CNI attachment, a tap and a device in the guest.
type NIC struct {
	// Name is the CNI interface's name in the netns, such as "eth0".
	Name string `json:"name"`
	// Tap is the tap's name, unique on the host: libvirt makes it in the host's netns,
	// from where it is moved into the sandbox's.
	Tap string `json:"tap"`
	// MAC is the guest's address, which is the one CNI gave the interface.
	MAC string `json:"mac"`
	MTU int    `json:"mtu"`
	// IPs are the guest's addresses with their prefix, in CNI's order.
	IPs    []NICAddress `json:"ips"`
	Routes []Route      `json:"routes,omitempty"`
	// Down: the guest is to see no carrier.
	Down bool `json:"down,omitempty"`
}

// NICAddress is one address of an interface.
type NICAddress struct {
	Prefix netip.Prefix `json:"prefix"`
	// Gateway may be invalid (the zero Addr): the plugin named none.
	Gateway netip.Addr `json:"gateway,omitzero"`
}

// Route is one route of the guest.
type Route struct {
	To netip.Prefix `json:"to"`
	// Via may be invalid (the zero Addr): the destination is on the link.
	Via    netip.Addr `json:"via,omitzero"`
	MTU    int        `json:"mtu,omitempty"`
	Metric int        `json:"metric,omitempty"`
}

// IPs lists the addresses of the pod: those of NICs that were attached later are not the pod's.
func (n *Network) IPs() []netip.Addr {
	if n == nil {
		return nil
	}
	var out []netip.Addr
	for _, nic := range n.NICs {
		for _, ip := range nic.IPs {
			out = append(out, ip.Prefix.Addr())
		}
	}
	return out
}

// NICStats are one interface's counters, seen from the guest: Rx is what it received.
type NICStats struct {
	Name     string
	RxBytes  uint64
	RxErrors uint64
	TxBytes  uint64
	TxErrors uint64
}
