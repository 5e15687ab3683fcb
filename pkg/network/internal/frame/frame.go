// SPDX-License-Identifier: Apache-2.0

// Package frame writes Ethernet frames for tests, byte by byte, so that they can be wrong
// in every way.
package frame

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// Ethernet types.
const (
	TypeIP4  = 0x0800
	TypeARP  = 0x0806
	TypeVLAN = 0x8100
	TypeIP6  = 0x86dd
)

// IP protocols and IPv6 extension headers.
const (
	ProtoHopByHop = 0
	ProtoICMP     = 1
	ProtoTCP      = 6
	ProtoUDP      = 17
	ProtoFragment = 44
	ProtoICMP6    = 58
)

// Broadcast is everybody's MAC.
var Broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Ethernet puts a header before a payload.
func Ethernet(dst, src net.HardwareAddr, etherType uint16, payload []byte) []byte {
	return join(dst, src, be16(etherType), payload)
}

// Tagged puts a header with a VLAN tag before a payload.
func Tagged(dst, src net.HardwareAddr, vlan, etherType uint16, payload []byte) []byte {
	return join(dst, src, be16(TypeVLAN), be16(vlan), be16(etherType), payload)
}

// ARP operations.
const (
	Request = 1
	Reply   = 2
)

// ARP is a packet of RFC 826 for IPv4 over Ethernet.
func ARP(op uint16, sender net.HardwareAddr, senderIP netip.Addr, target net.HardwareAddr, targetIP netip.Addr) []byte {
	return join([]byte{0, 1, 8, 0, 6, 4}, be16(op), sender, senderIP.AsSlice(), target, targetIP.AsSlice())
}

// IP4 is a packet without options, with its header checksum.
func IP4(src, dst netip.Addr, proto byte, payload []byte) []byte {
	h := join([]byte{0x45, 0}, be16(uint16(20+len(payload))), []byte{0, 0, 0, 0, 64, proto, 0, 0}, src.AsSlice(), dst.AsSlice())
	binary.BigEndian.PutUint16(h[10:], checksum(h))
	return join(h, payload)
}

// IP6 is a packet whose hop limit is the 255 that neighbour discovery asks for.
func IP6(src, dst netip.Addr, next byte, payload []byte) []byte {
	return join([]byte{0x60, 0, 0, 0}, be16(uint16(len(payload))), []byte{next, 255}, src.AsSlice(), dst.AsSlice(), payload)
}

// ICMP is a message of ICMP for IPv4, with its checksum.
func ICMP(kind byte, body []byte) []byte {
	m := join([]byte{kind, 0, 0, 0}, body)
	binary.BigEndian.PutUint16(m[2:], checksum(m))
	return m
}

// ICMP6 is a message of ICMPv6, with its checksum.
func ICMP6(src, dst netip.Addr, kind byte, body []byte) []byte {
	m := join([]byte{kind, 0, 0, 0}, body)
	pseudo := join(src.AsSlice(), dst.AsSlice(), []byte{0, 0}, be16(uint16(len(m))), []byte{0, 0, 0, ProtoICMP6}, m)
	binary.BigEndian.PutUint16(m[2:], checksum(pseudo))
	return m
}

// Neighbour is a solicitation (135) or advertisement (136) with its options.
func Neighbour(src, dst netip.Addr, kind byte, target netip.Addr, options ...[]byte) []byte {
	flags := []byte{0, 0, 0, 0}
	if kind == 136 {
		flags[0] = 0x60 // solicited, override
	}
	return IP6(src, dst, ProtoICMP6, ICMP6(src, dst, kind, join(append([][]byte{flags, target.AsSlice()}, options...)...)))
}

// MACOption is a source (1) or target (2) link-layer address option.
func MACOption(kind byte, mac net.HardwareAddr) []byte { return join([]byte{kind, 1}, mac) }

// UDP is a datagram without a checksum.
func UDP(src, dst uint16, payload []byte) []byte {
	return join(be16(src), be16(dst), be16(uint16(8+len(payload))), []byte{0, 0}, payload)
}

// SYN is a TCP segment that opens a connection.
func SYN(src, dst netip.Addr, srcPort, dstPort uint16) []byte {
	s := join(be16(srcPort), be16(dstPort), []byte{1, 2, 3, 4, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0})
	pseudo := join(src.AsSlice(), dst.AsSlice(), []byte{0, ProtoTCP}, be16(uint16(len(s))), s)
	binary.BigEndian.PutUint16(s[16:], checksum(pseudo))
	return s
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func be16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

func join(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}
