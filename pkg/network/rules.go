// SPDX-License-Identifier: Apache-2.0

package network

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/vm"
)

// priorityFirst is nft's "raw": before conntrack and defragmentation.
const priorityFirst = -300

// silence makes the batch that mutes a netns: whatever its own stack would hear or say, on
// any device, is dropped. It needs no device, so it stands before CNI makes one. Frames
// between NIC and tap never get as far as these hooks.
func silence() *nftBatch {
	b := &nftBatch{}
	b.addTable(familyInet)
	b.addChain(familyInet, "hear", &hook{Number: unix.NF_INET_PRE_ROUTING, Priority: priorityFirst})
	b.addChain(familyInet, "say", &hook{Number: unix.NF_INET_LOCAL_OUT, Priority: priorityFirst})
	b.addTable(familyARP)
	b.addChain(familyARP, "hear", &hook{Number: nfARPIn, Priority: priorityFirst})
	b.addChain(familyARP, "say", &hook{Number: nfARPOut, Priority: priorityFirst})
	return b
}

// Hooks of the family arp, from linux/netfilter_arp.h.
const (
	nfARPIn  = 0
	nfARPOut = 1
)

// port is a NIC in its netns, with the devices it stands on.
type port struct {
	vm.NIC
	mac net.HardwareAddr
	// index and tap are interface indexes in the netns.
	index, tap uint32
}

// rule is one rule with the chain it belongs to.
type rule struct {
	chain string
	exprs []any
}

// closed makes the batch that drops whatever arrives at a NIC: the state in which a NIC has
// no tap. It stands before connect.
func closed(nic string) *nftBatch {
	b := &nftBatch{}
	b.addTable(familyNetdev)
	b.addChain(familyNetdev, port{NIC: vm.NIC{Name: nic}}.toGuest(), &hook{Number: unix.NF_NETDEV_INGRESS, Device: nic})
	return b
}

// connect makes the batch that joins NICs, which are closed, with their taps. Rules of an
// earlier tap are replaced in the same transaction: there is no moment without rules. The
// chain at the NIC is not added again, since that alone would have the kernel free
// something, as send says. The chain at the tap may have gone with the tap.
func connect(ports []port) *nftBatch {
	b := &nftBatch{}
	for _, p := range ports {
		b.flushChain(familyNetdev, p.toGuest())
		b.addChain(familyNetdev, p.fromGuest(), &hook{Number: unix.NF_NETDEV_INGRESS, Device: p.Tap})
		b.addChain(familyNetdev, p.ip6(), nil)
		b.flushChain(familyNetdev, p.fromGuest())
		b.flushChain(familyNetdev, p.ip6())
		for _, r := range p.rules() {
			b.addRule(familyNetdev, r.chain, r.exprs)
		}
	}
	return b
}

// Names of a NIC's chains: base chains at NIC and tap, and the chain for IPv6 packets whose
// source is one of the guest's.
func (p port) toGuest() string   { return p.Name + "-to-guest" }
func (p port) fromGuest() string { return p.Name + "-from-guest" }
func (p port) ip6() string       { return p.Name + "-from-guest-ip6" }

// rules are the rules of a NIC that has a tap. To the guest everything goes: broadcast,
// multicast and whatever its own filter will not want. From the guest goes what carries
// its MAC and its addresses; the rest ends at the chain's policy, which the last rule only
// counts for: tagged frames, DHCP, and ARP's search for duplicates (RFC 5227, sender
// 0.0.0.0), whose answer is silence as it should be. The frequent comes first.
func (p port) rules() []rule {
	rules := []rule{{p.toGuest(), join(forward(p.tap))}}
	add := func(parts ...[]any) { rules = append(rules, rule{p.fromGuest(), join(parts...)}) }

	add(linkIsNot(6, p.mac), drop())
	var v6 []netip.Addr
	for _, ip := range p.IPs {
		addr := ip.Prefix.Addr()
		if addr.Is6() {
			v6 = append(v6, addr)
			continue
		}
		add(etherType(unix.ETH_P_IP), netIs(12, addr.AsSlice()), forward(p.index))
		sender := append(append([]byte{}, p.mac...), addr.AsSlice()...)
		add(etherType(unix.ETH_P_ARP), netIs(0, []byte{0, 1, 8, 0, 6, 4}), netIs(8, sender), forward(p.index))
	}
	// A NIC without an IPv6 address speaks no IPv6 at all, link-local or not.
	if len(v6) > 0 {
		rules = append(rules, p.rulesIP6(append(v6, linkLocal(p.mac)))...)
	}
	add(drop())
	return rules
}

// linkLocal is the link-local address that RFC 4291 appendix A derives from a MAC.
func linkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]})
}

// join puts together the parts of a rule.
func join(parts ...[]any) []any {
	var exprs []any
	for _, part := range parts {
		exprs = append(exprs, part...)
	}
	return exprs
}

// All matches load into this register, compare, and have done with it.
const register = unix.NFT_REG_1

func payload(base expr.PayloadBase, op expr.CmpOp, offset uint32, value []byte) []any {
	return []any{
		&expr.Payload{DestRegister: register, Base: base, Offset: offset, Len: uint32(len(value))},
		&expr.Cmp{Op: op, Register: register, Data: value},
	}
}

func linkIsNot(offset uint32, value []byte) []any {
	return payload(expr.PayloadBaseLLHeader, expr.CmpOpNeq, offset, value)
}

// etherType compares the type in the frame itself. `meta protocol` would be the inner type
// of a VLAN-tagged frame, which the kernel untags before the hook and tags again after it:
// such a frame would leave with its tag.
func etherType(t uint16) []any {
	return payload(expr.PayloadBaseLLHeader, expr.CmpOpEq, 12, binaryutil.BigEndian.PutUint16(t))
}

func netIs(offset uint32, value []byte) []any {
	return payload(expr.PayloadBaseNetworkHeader, expr.CmpOpEq, offset, value)
}

func transportIs(offset uint32, value []byte) []any {
	return payload(expr.PayloadBaseTransportHeader, expr.CmpOpEq, offset, value)
}

func l4proto(op expr.CmpOp, proto byte) []any {
	return []any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register},
		&expr.Cmp{Op: op, Register: register, Data: []byte{proto}},
	}
}

func forward(index uint32) []any {
	return []any{
		&expr.Immediate{Register: register, Data: binaryutil.NativeEndian.PutUint32(index)},
		fwd{Register: register},
	}
}

// drop counts what it drops, for whoever wonders why a guest is not heard.
func drop() []any { return []any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}} }

func jump(chain string) []any {
	return []any{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}
}

// newPort checks what the rules rest on: a MAC of six bytes.
func newPort(nic vm.NIC, index, tap int) (port, error) {
	mac, err := net.ParseMAC(nic.MAC)
	if err != nil || len(mac) != 6 {
		return port{}, fmt.Errorf("NIC %s: %q is not an Ethernet address", nic.Name, nic.MAC)
	}
	return port{NIC: nic, mac: mac, index: uint32(index), tap: uint32(tap)}, nil
}
