// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"net"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/vm"
)

// ruleset is one transaction of nf_tables.
type ruleset struct{ messages []netlink.Message }

// mute drops whatever the namespace itself would hear or say.
func mute() *ruleset {
	r := &ruleset{}
	r.table(unix.NFPROTO_INET)
	r.chain(unix.NFPROTO_INET, "hear", unix.NF_INET_PRE_ROUTING, "")
	r.chain(unix.NFPROTO_INET, "say", unix.NF_INET_LOCAL_OUT, "")
	r.table(unix.NFPROTO_ARP)
	r.chain(unix.NFPROTO_ARP, "hear", 0, "")
	r.chain(unix.NFPROTO_ARP, "say", 1, "")
	return r
}

// join sends what comes in at a NIC to its tap, and from the tap to the NIC what carries the
// guest's addresses. (vmlet looks into neighbour discovery besides; in the kernel's work for
// one transaction that is noise.)
func join(nic vm.NIC, eth, tap uint32) *ruleset {
	r := &ruleset{}
	r.table(unix.NFPROTO_NETDEV)
	in, out := chainsOf(nic)
	r.chain(unix.NFPROTO_NETDEV, in, unix.NF_NETDEV_INGRESS, nic.Name)
	r.chain(unix.NFPROTO_NETDEV, out, unix.NF_NETDEV_INGRESS, nic.Tap)
	r.rule(in, forward(tap))
	mac, err := net.ParseMAC(nic.MAC)
	if err != nil {
		panic(err) // it comes from the kernel, by way of a plugin
	}
	linkHeader, netHeader := expr.PayloadBaseLLHeader, expr.PayloadBaseNetworkHeader
	for _, ip := range nic.IPs {
		addr := ip.Prefix.Addr()
		kind, at := uint16(unix.ETH_P_IP), uint32(12)
		if addr.Is6() {
			kind, at = unix.ETH_P_IPV6, 8
		}
		from := append(equals(linkHeader, 6, mac), equals(linkHeader, 12, binaryutil.BigEndian.PutUint16(kind))...)
		r.rule(out, from, equals(netHeader, at, addr.AsSlice()), forward(eth))
		if addr.Is4() {
			arp := append(equals(linkHeader, 6, mac), equals(linkHeader, 12, binaryutil.BigEndian.PutUint16(unix.ETH_P_ARP))...)
			r.rule(out, arp, equals(netHeader, 14, addr.AsSlice()), forward(eth))
		}
	}
	return r
}

func chainsOf(nic vm.NIC) (in, out string) { return nic.Name + "-in", nic.Name + "-out" }

// part takes the rules of a NIC that is gone: kernels from 6.16 on keep them.
func part(nic vm.NIC) *ruleset {
	r := &ruleset{}
	in, out := chainsOf(nic)
	for _, chain := range []string{out, in} {
		r.add(unix.NFT_MSG_DELCHAIN, unix.NFPROTO_NETDEV, 0, text(unix.NFTA_CHAIN_TABLE, "floor"), text(unix.NFTA_CHAIN_NAME, chain))
	}
	return r
}

func (r *ruleset) table(family byte) {
	r.add(unix.NFT_MSG_NEWTABLE, family, netlink.Create, text(unix.NFTA_TABLE_NAME, "floor"))
}

// chain adds a base chain that drops what no rule decides.
func (r *ruleset) chain(family byte, name string, hook uint32, device string) {
	const first = -300 // before connection tracking
	priority := int32(first)
	where := []netlink.Attribute{
		{Type: unix.NFTA_HOOK_HOOKNUM, Data: binaryutil.BigEndian.PutUint32(hook)},
		{Type: unix.NFTA_HOOK_PRIORITY, Data: binaryutil.BigEndian.PutUint32(uint32(priority))},
	}
	if device != "" {
		where = append(where, text(unix.NFTA_HOOK_DEV, device))
	}
	r.add(unix.NFT_MSG_NEWCHAIN, family, netlink.Create,
		text(unix.NFTA_CHAIN_TABLE, "floor"), text(unix.NFTA_CHAIN_NAME, name),
		netlink.Attribute{Type: netlink.Nested | unix.NFTA_CHAIN_HOOK, Data: attributes(where...)},
		netlink.Attribute{Type: unix.NFTA_CHAIN_POLICY, Data: binaryutil.BigEndian.PutUint32(0)}, // drop
		text(unix.NFTA_CHAIN_TYPE, "filter"))
}

// rule appends a rule of encoded expressions to a chain of family netdev.
func (r *ruleset) rule(chain string, parts ...[][]byte) {
	var list []netlink.Attribute
	for _, part := range parts {
		for _, e := range part {
			list = append(list, netlink.Attribute{Type: netlink.Nested | unix.NFTA_LIST_ELEM, Data: e})
		}
	}
	r.add(unix.NFT_MSG_NEWRULE, unix.NFPROTO_NETDEV, netlink.Create|netlink.Append,
		text(unix.NFTA_RULE_TABLE, "floor"), text(unix.NFTA_RULE_CHAIN, chain),
		netlink.Attribute{Type: netlink.Nested | unix.NFTA_RULE_EXPRESSIONS, Data: attributes(list...)})
}

func equals(base expr.PayloadBase, offset uint32, value []byte) [][]byte {
	return [][]byte{
		encode(&expr.Payload{DestRegister: unix.NFT_REG_1, Base: base, Offset: offset, Len: uint32(len(value))}),
		encode(&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: value}),
	}
}

// forward is `fwd to`, which google/nftables cannot say.
func forward(index uint32) [][]byte {
	register := attributes(netlink.Attribute{Type: unix.NFTA_FWD_SREG_DEV, Data: binaryutil.BigEndian.PutUint32(unix.NFT_REG_1)})
	return [][]byte{
		encode(&expr.Immediate{Register: unix.NFT_REG_1, Data: binaryutil.NativeEndian.PutUint32(index)}),
		attributes(text(unix.NFTA_EXPR_NAME, "fwd"), netlink.Attribute{Type: netlink.Nested | unix.NFTA_EXPR_DATA, Data: register}),
	}
}

func encode(e expr.Any) []byte {
	data, err := expr.Marshal(unix.NFPROTO_NETDEV, e)
	if err != nil {
		panic(err) // constants and addresses: it always can
	}
	return data
}

func text(kind uint16, s string) netlink.Attribute {
	return netlink.Attribute{Type: kind, Data: append([]byte(s), 0)}
}

func attributes(list ...netlink.Attribute) []byte {
	data, err := netlink.MarshalAttributes(list)
	if err != nil {
		panic(err) // only for lengths beyond 64 KiB
	}
	return data
}

func (r *ruleset) add(kind uint16, family byte, flags netlink.HeaderFlags, attrs ...netlink.Attribute) {
	r.messages = append(r.messages, message(unix.NFNL_SUBSYS_NFTABLES<<8|kind, family, 0, netlink.Request|netlink.Acknowledge|flags, attributes(attrs...)))
}

func message(kind uint16, family byte, resource uint16, flags netlink.HeaderFlags, data []byte) netlink.Message {
	header := append([]byte{family, unix.NFNETLINK_V0}, binaryutil.BigEndian.PutUint16(resource)...)
	return netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: flags}, Data: append(header, data...)}
}

// send has the kernel take all of it or nothing.
func (r *ruleset) send(namespace int) error {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: namespace})
	if err != nil {
		return err
	}
	defer func() { go conn.Close() }() //nolint:errcheck // all answers are in, and the kernel keeps who closes it waiting
	batch := []netlink.Message{message(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.NFNL_SUBSYS_NFTABLES, netlink.Request, nil)}
	batch = append(batch, r.messages...)
	batch = append(batch, message(unix.NFNL_MSG_BATCH_END, 0, unix.NFNL_SUBSYS_NFTABLES, netlink.Request, nil))
	if _, err := conn.SendMessages(batch); err != nil {
		return err
	}
	for i := range r.messages {
		if _, err := conn.Receive(); err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
	}
	return nil
}
