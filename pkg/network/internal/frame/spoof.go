// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"net"
	"net/netip"
	"slices"
)

// Guest is who a NIC's frames must come from.
type Guest struct {
	MAC      net.HardwareAddr
	IP4, IP6 netip.Addr
	// LinkLocal is what RFC 4291 derives from MAC; Gateway and Gateway6 a neighbour's.
	LinkLocal         netip.Addr
	Gateway, Gateway6 netip.Addr
}

// Case is a frame that a guest sends, and whether it may leave.
type Case struct {
	Name   string
	Frame  []byte
	Passes bool
}

var (
	allNodes    = netip.MustParseAddr("ff02::1")
	noAddr      = netip.IPv6Unspecified()
	otherMAC    = net.HardwareAddr{0x02, 0xde, 0xad, 0xbe, 0xef, 0x01}
	otherLL     = netip.MustParseAddr("fe80::1")
	privacyLL   = netip.MustParseAddr("fe80::1234:5678:9abc:def0")
	zeroIP4     = netip.IPv4Unspecified()
	broadcastIP = netip.MustParseAddr("255.255.255.255")
)

// Cases are what a guest may and may not say. The rules and the kernel that runs them are
// both held to it.
func Cases(g Guest) []Case {
	return slices.Concat(g.ip4(), g.arp(), g.ip6(), g.nd(), g.groups(), g.odd())
}

func (g Guest) send(etherType uint16, payload []byte) []byte {
	return Ethernet(Broadcast, g.MAC, etherType, payload)
}

func (g Guest) ip4() []Case {
	packet := func(src netip.Addr) []byte { return IP4(src, g.Gateway, ProtoUDP, UDP(9, 9, nil)) }
	dhcp := IP4(zeroIP4, broadcastIP, ProtoUDP, UDP(68, 67, make([]byte, 240)))
	return []Case{
		{"IPv4 from the guest's address", g.send(TypeIP4, packet(g.IP4)), true},
		{"IPv4 from another address", g.send(TypeIP4, packet(g.IP4.Next())), false},
		{"IPv4 from the gateway's address", g.send(TypeIP4, packet(g.Gateway)), false},
		{"IPv4 from another MAC", Ethernet(Broadcast, otherMAC, TypeIP4, packet(g.IP4)), false},
		{"IPv4 to a multicast group", g.send(TypeIP4, IP4(g.IP4, netip.MustParseAddr("224.0.0.251"), ProtoUDP, UDP(5353, 5353, nil))), true},
		{"DHCP discover", g.send(TypeIP4, dhcp), false},
	}
}

func (g Guest) arp() []Case {
	arp := func(op uint16, mac net.HardwareAddr, ip netip.Addr) []byte {
		return ARP(op, mac, ip, make(net.HardwareAddr, 6), g.Gateway)
	}
	wrongType := arp(Reply, g.MAC, g.IP4)
	wrongType[1] = 6
	return []Case{
		{"ARP request", g.send(TypeARP, arp(Request, g.MAC, g.IP4)), true},
		{"ARP reply", g.send(TypeARP, arp(Reply, g.MAC, g.IP4)), true},
		{"ARP probe", g.send(TypeARP, arp(Request, g.MAC, zeroIP4)), false},
		{"ARP reply for another address", g.send(TypeARP, arp(Reply, g.MAC, g.Gateway)), false},
		{"ARP reply with another MAC inside", g.send(TypeARP, arp(Reply, otherMAC, g.IP4)), false},
		{"ARP reply from another MAC", Ethernet(Broadcast, otherMAC, TypeARP, arp(Reply, otherMAC, g.IP4)), false},
		{"ARP request for another address", g.send(TypeARP, arp(Request, g.MAC, g.IP4.Next())), false},
		{"ARP for another hardware type", g.send(TypeARP, wrongType), false},
	}
}

func (g Guest) ip6() []Case {
	packet := func(src netip.Addr) []byte { return IP6(src, g.Gateway6, ProtoUDP, UDP(9, 9, nil)) }
	echo := ICMP6(g.IP6, g.Gateway6, 128, []byte{0, 1, 0, 1})
	return []Case{
		{"IPv6 from the guest's address", g.send(TypeIP6, packet(g.IP6)), true},
		{"IPv6 from its link-local address", g.send(TypeIP6, packet(g.LinkLocal)), true},
		{"IPv6 from another address", g.send(TypeIP6, packet(g.IP6.Next())), false},
		{"IPv6 from another link-local address", g.send(TypeIP6, packet(otherLL)), false},
		{"IPv6 from another MAC", Ethernet(Broadcast, otherMAC, TypeIP6, packet(g.IP6)), false},
		{"ICMPv6 echo", g.send(TypeIP6, IP6(g.IP6, g.Gateway6, ProtoICMP6, echo)), true},
		{"a later fragment of an ICMPv6 echo", g.send(TypeIP6, IP6(g.IP6, g.Gateway6, ProtoFragment,
			join([]byte{ProtoICMP6, 0, 0, 8, 1, 2, 3, 4}, make([]byte, 32)))), true},
	}
}

func (g Guest) nd() []Case {
	mine, other := MACOption(2, g.MAC), MACOption(2, otherMAC)
	source, otherSource := MACOption(1, g.MAC), MACOption(1, otherMAC)
	advert := func(src, target netip.Addr, options ...[]byte) []byte {
		return g.send(TypeIP6, Neighbour(src, allNodes, 136, target, options...))
	}
	solicit := func(src, target netip.Addr, options ...[]byte) []byte {
		return g.send(TypeIP6, Neighbour(src, allNodes, 135, target, options...))
	}
	router := func(kind byte, body ...[]byte) []byte {
		return g.send(TypeIP6, IP6(g.LinkLocal, allNodes, ProtoICMP6, ICMP6(g.LinkLocal, allNodes, kind, join(body...))))
	}
	hidden := ICMP6(g.IP6, allNodes, 136, join(make([]byte, 4), g.Gateway6.AsSlice(), mine))
	return []Case{
		{"advertisement of the guest's address", advert(g.IP6, g.IP6, mine), true},
		{"advertisement of its link-local address", advert(g.LinkLocal, g.LinkLocal, mine), true},
		{"advertisement without a MAC", advert(g.IP6, g.IP6), true},
		{"advertisement of another address", advert(g.IP6, g.Gateway6, mine), false},
		{"advertisement of another link-local address", advert(g.LinkLocal, otherLL, mine), false},
		{"advertisement with another MAC", advert(g.IP6, g.IP6, other), false},
		{"advertisement with another MAC behind another option", advert(g.IP6, g.IP6, make([]byte, 8), other), false},
		{"advertisement from another address", advert(g.Gateway6, g.IP6, mine), false},
		{"advertisement of another address behind an extension header", g.send(TypeIP6,
			IP6(g.IP6, allNodes, ProtoHopByHop, join([]byte{ProtoICMP6, 0, 1, 4, 0, 0, 0, 0}, hidden))), false},
		{"solicitation", solicit(g.IP6, g.Gateway6, source), true},
		{"solicitation without a MAC", solicit(g.IP6, g.Gateway6), true},
		{"solicitation with another MAC", solicit(g.IP6, g.Gateway6, otherSource), false},
		{"solicitation from another link-local address", solicit(privacyLL, g.Gateway6, source), false},
		{"search for duplicates of the guest's address", solicit(noAddr, g.IP6), true},
		{"search for duplicates of its link-local address", solicit(noAddr, g.LinkLocal), true},
		{"search for duplicates of another address", solicit(noAddr, g.Gateway6), false},
		{"router solicitation", router(133, make([]byte, 4), source), true},
		{"router solicitation with another MAC", router(133, make([]byte, 4), otherSource), false},
		{"router advertisement", router(134, make([]byte, 12)), false},
		{"redirect", router(137, make([]byte, 36)), false},
	}
}

// groups are reports to multicast snoopers, with the header that asks routers to look.
func (g Guest) groups() []Case {
	report := func(src netip.Addr, kind byte) []byte {
		message := ICMP6(src, allNodes, kind, make([]byte, 20))
		return g.send(TypeIP6, IP6(src, allNodes, ProtoHopByHop, join([]byte{ProtoICMP6, 0, 5, 2, 0, 0, 1, 0}, message)))
	}
	return []Case{
		{"multicast report", report(g.LinkLocal, 143), true},
		{"multicast report, version 1", report(g.LinkLocal, 131), true},
		{"multicast done from a link-local address of the guest's choice", report(privacyLL, 132), true},
		{"multicast report before there is an address", report(noAddr, 143), true},
		{"multicast report from another address", report(g.Gateway6, 143), false},
		{"multicast query", report(g.LinkLocal, 130), false},
	}
}

func (g Guest) odd() []Case {
	packet := IP4(g.IP4, g.Gateway, ProtoUDP, UDP(9, 9, nil))
	return []Case{
		{"IPv4 in a VLAN", Tagged(Broadcast, g.MAC, 7, TypeIP4, packet), false},
		{"IPv4 with priority tag", Tagged(Broadcast, g.MAC, 0, TypeIP4, packet), false},
		{"ARP in a VLAN", Tagged(Broadcast, g.MAC, 7, TypeARP, ARP(Reply, g.MAC, g.IP4, g.MAC, g.IP4)), false},
		{"IPv4 in two VLANs", Tagged(Broadcast, g.MAC, 7, TypeVLAN, join(be16(8), be16(TypeIP4), packet)), false},
		{"spanning tree", Ethernet(net.HardwareAddr{1, 0x80, 0xc2, 0, 0, 0}, g.MAC, 38, make([]byte, 46)), false},
		{"pause", Ethernet(net.HardwareAddr{1, 0x80, 0xc2, 0, 0, 1}, g.MAC, 0x8808, make([]byte, 46)), false},
		{"unknown type", g.send(0x88b5, make([]byte, 46)), false},
		{"no more than a header", g.send(TypeIP4, nil), false},
	}
}
