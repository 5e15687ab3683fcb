// SPDX-License-Identifier: Apache-2.0

package network

import (
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Types of ICMPv6: RFC 4861 (neighbour discovery), RFC 2710 and 3810 (multicast listeners).
const (
	icmpMLDQuery   = 130
	icmpMLDReport  = 131
	icmpMLDDone    = 132
	icmpMLDReport2 = 143
	icmpRS         = 133
	icmpRA         = 134
	icmpNS         = 135
	icmpNA         = 136
	icmpRedirect   = 137
)

// Neighbour discovery options that carry a MAC: RFC 4861, 4.6.1.
const (
	optSourceMAC = 1
	optTargetMAC = 2
)

// rulesIP6 are the rules for IPv6 from a guest that owns the addresses own: those that
// CNI assigned and the link-local one that follows from the MAC.
//
// A guest that makes up another link-local address (RFC 7217) cannot use it: nothing tells
// such an address from a neighbour's, and whoever may claim fe80::1 is everybody's router.
// Its assigned addresses work all the same: it resolves neighbours from them (a kernel's
// solicitation takes the source of the packet that waits), its neighbours ask for them,
// and its reports to multicast snoopers, which bind no address to a MAC, pass from any
// link-local address. So does the search for duplicates (source ::) of an address it owns.
func (p port) rulesIP6(own []netip.Addr) []rule {
	var rules []rule
	add := func(parts ...[]any) {
		rules = append(rules, rule{p.fromGuest(), join(append([][]any{etherType(unix.ETH_P_IPV6)}, parts...)...)})
	}
	for _, addr := range own {
		add(source(addr), jump(p.ip6()))
	}
	for _, addr := range own {
		add(source(netip.IPv6Unspecified()), icmp6(icmpNS), target(addr), forward(p.index))
	}
	for _, report := range []byte{icmpMLDReport2, icmpMLDReport, icmpMLDDone} {
		add(anyLinkLocal(), icmp6(report), forward(p.index))
		add(source(netip.IPv6Unspecified()), icmp6(report), forward(p.index))
	}
	return append(rules, p.rulesOwnSource(own)...)
}

// rulesOwnSource are the rules for a packet whose source is the guest's: all may go but
// the messages that rule others (router advertisement, redirect, multicast query) and
// neighbour discovery that claims another's address or names another's MAC. The option
// with the MAC must come first, as everybody sends it, or there must be no option at all.
// What hides in fragments goes through: since RFC 6980 receivers ignore it.
func (p port) rulesOwnSource(own []netip.Addr) []rule {
	var rules []rule
	add := func(parts ...[]any) { rules = append(rules, rule{p.ip6(), join(parts...)}) }

	add(l4proto(expr.CmpOpNeq, unix.IPPROTO_ICMPV6), forward(p.index))
	for _, t := range []byte{icmpRA, icmpRedirect, icmpMLDQuery} {
		add(icmp6(t), drop())
	}
	add(icmp6(icmpNS), p.macOption(24, optSourceMAC), forward(p.index))
	add(icmp6(icmpNS), payloadLength(24), forward(p.index))
	add(icmp6(icmpRS), p.macOption(8, optSourceMAC), forward(p.index))
	add(icmp6(icmpRS), payloadLength(8), forward(p.index))
	for _, addr := range own {
		add(icmp6(icmpNA), target(addr), p.macOption(24, optTargetMAC), forward(p.index))
		add(icmp6(icmpNA), target(addr), payloadLength(24), forward(p.index))
	}
	for _, t := range []byte{icmpNS, icmpNA, icmpRS} {
		add(icmp6(t), drop())
	}
	add(forward(p.index))
	return rules
}

func source(addr netip.Addr) []any { return netIs(8, addr.AsSlice()) }

// anyLinkLocal matches a source in fe80::/64, which RFC 4291 2.5.6 says they all are in.
func anyLinkLocal() []any { return netIs(8, []byte{0xfe, 0x80, 0, 0, 0, 0, 0, 0}) }

// payloadLength compares IPv6's payload length, extension headers included.
func payloadLength(n byte) []any { return netIs(4, []byte{0, n}) }

func icmp6(t byte) []any {
	return join(l4proto(expr.CmpOpEq, unix.IPPROTO_ICMPV6), transportIs(0, []byte{t}))
}

// target is the address that a solicitation or an advertisement is about.
func target(addr netip.Addr) []any { return transportIs(8, addr.AsSlice()) }

// macOption matches an option of 8 bytes with the guest's MAC.
func (p port) macOption(offset uint32, option byte) []any {
	return transportIs(offset, append([]byte{option, 1}, p.mac...))
}
