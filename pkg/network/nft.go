// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"fmt"
	"time"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Families of nf_tables.
const (
	familyInet   = unix.NFPROTO_INET
	familyARP    = unix.NFPROTO_ARP
	familyNetdev = unix.NFPROTO_NETDEV
)

// nftTable is the name of our tables, one per family, in a sandbox's netns.
const nftTable = "vmlet"

// nfDrop is the verdict NF_DROP, the policy of all our base chains.
const nfDrop = 0

// nftBatch is one transaction of nf_tables: the kernel takes all of it or nothing. The
// messages are written here because google/nftables, whose expressions are used, cannot
// say `fwd to`.
type nftBatch struct {
	messages []netlink.Message
	purposes []string // of each message, for errors
	err      error
}

// hook is where a base chain is called; Device is for the family netdev only.
type hook struct {
	Number   uint32
	Priority int32
	Device   string
}

// fwd sends the packet out of the device whose index is in a register, and ends its way
// here. If there is no such device any more the packet is dropped: the kernel's
// nf_fwd_netdev_egress frees it, and no later rule or protocol sees it.
type fwd struct{ Register uint32 }

// addTable adds our table of a family where there is none.
func (b *nftBatch) addTable(family uint8) {
	b.add("add table "+nftTable, unix.NFT_MSG_NEWTABLE, family, netlink.Create,
		netlink.Attribute{Type: unix.NFTA_TABLE_NAME, Data: cString(nftTable)})
}

// flushChain removes the rules of a chain. Where there are none it costs the kernel nothing: send says what it costs else.
func (b *nftBatch) flushChain(family uint8, chain string) {
	b.add("flush chain "+chain, unix.NFT_MSG_DELRULE, family, 0,
		netlink.Attribute{Type: unix.NFTA_RULE_TABLE, Data: cString(nftTable)},
		netlink.Attribute{Type: unix.NFTA_RULE_CHAIN, Data: cString(chain)})
}

// deleteChain removes a chain with its rules.
func (b *nftBatch) deleteChain(family uint8, chain string) {
	b.add("delete chain "+chain, unix.NFT_MSG_DELCHAIN, family, 0,
		netlink.Attribute{Type: unix.NFTA_CHAIN_TABLE, Data: cString(nftTable)},
		netlink.Attribute{Type: unix.NFTA_CHAIN_NAME, Data: cString(chain)})
}

// addChain adds a chain where there is none: a base chain that drops what no rule decides where h is given,
// else one that other chains jump to.
func (b *nftBatch) addChain(family uint8, chain string, h *hook) {
	attrs := []netlink.Attribute{
		{Type: unix.NFTA_CHAIN_TABLE, Data: cString(nftTable)},
		{Type: unix.NFTA_CHAIN_NAME, Data: cString(chain)},
	}
	if h != nil {
		where := []netlink.Attribute{
			{Type: unix.NFTA_HOOK_HOOKNUM, Data: binaryutil.BigEndian.PutUint32(h.Number)},
			{Type: unix.NFTA_HOOK_PRIORITY, Data: binaryutil.BigEndian.PutUint32(uint32(h.Priority))},
		}
		if h.Device != "" {
			where = append(where, netlink.Attribute{Type: unix.NFTA_HOOK_DEV, Data: cString(h.Device)})
		}
		attrs = append(attrs,
			b.nested(unix.NFTA_CHAIN_HOOK, where),
			netlink.Attribute{Type: unix.NFTA_CHAIN_POLICY, Data: binaryutil.BigEndian.PutUint32(nfDrop)},
			netlink.Attribute{Type: unix.NFTA_CHAIN_TYPE, Data: cString("filter")},
		)
	}
	b.add("add chain "+chain, unix.NFT_MSG_NEWCHAIN, family, netlink.Create, attrs...)
}

// addRule appends a rule to a chain. Its expressions are those of google/nftables/expr,
// and fwd.
func (b *nftBatch) addRule(family uint8, chain string, expressions []any) {
	list := make([]netlink.Attribute, 0, len(expressions))
	for _, e := range expressions {
		data, err := marshalExpression(family, e)
		if err != nil && b.err == nil {
			b.err = fmt.Errorf("encode a rule of chain %s: %w", chain, err)
		}
		list = append(list, netlink.Attribute{Type: netlink.Nested | unix.NFTA_LIST_ELEM, Data: data})
	}
	b.add("add rule to "+chain, unix.NFT_MSG_NEWRULE, family, netlink.Create|netlink.Append,
		netlink.Attribute{Type: unix.NFTA_RULE_TABLE, Data: cString(nftTable)},
		netlink.Attribute{Type: unix.NFTA_RULE_CHAIN, Data: cString(chain)},
		b.nested(unix.NFTA_RULE_EXPRESSIONS, list),
	)
}

func marshalExpression(family uint8, e any) ([]byte, error) {
	switch e := e.(type) {
	case fwd:
		data, err := netlink.MarshalAttributes([]netlink.Attribute{
			{Type: unix.NFTA_FWD_SREG_DEV, Data: binaryutil.BigEndian.PutUint32(e.Register)},
		})
		if err != nil {
			return nil, err
		}
		return netlink.MarshalAttributes([]netlink.Attribute{
			{Type: unix.NFTA_EXPR_NAME, Data: cString("fwd")},
			{Type: netlink.Nested | unix.NFTA_EXPR_DATA, Data: data},
		})
	case expr.Any:
		return expr.Marshal(family, e)
	default:
		return nil, fmt.Errorf("%T is not an expression", e)
	}
}

func (b *nftBatch) add(purpose string, kind uint16, family uint8, flags netlink.HeaderFlags, attrs ...netlink.Attribute) {
	data, err := netlink.MarshalAttributes(attrs)
	if err != nil && b.err == nil {
		b.err = fmt.Errorf("%s: %w", purpose, err)
	}
	b.messages = append(b.messages, nftMessage(unix.NFNL_SUBSYS_NFTABLES<<8|kind, family, 0,
		netlink.Request|netlink.Acknowledge|flags, data))
	b.purposes = append(b.purposes, purpose)
}

func (b *nftBatch) nested(kind uint16, attrs []netlink.Attribute) netlink.Attribute {
	data, err := netlink.MarshalAttributes(attrs)
	if err != nil && b.err == nil {
		b.err = err
	}
	return netlink.Attribute{Type: netlink.Nested | kind, Data: data}
}

// nftMessage puts struct nfgenmsg before the attributes.
func nftMessage(kind uint16, family uint8, resource uint16, flags netlink.HeaderFlags, attrs []byte) netlink.Message {
	header := append([]byte{family, unix.NFNETLINK_V0}, binaryutil.BigEndian.PutUint16(resource)...)
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: flags},
		Data:   append(header, attrs...),
	}
}

// nftTimeout bounds the wait for the kernel's answers, which come at once or never.
const nftTimeout = 10 * time.Second

// send runs the transaction in the network namespace of a descriptor.
func (b *nftBatch) send(ctx context.Context, netns int) error {
	if b.err != nil {
		return b.err
	}
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: netns})
	if err != nil {
		return fmt.Errorf("open nf_tables: %w", err)
	}
	// Who closes a socket of nf_tables waits until the kernel has freed what was removed in the namespace: for a grace period of RCU,
	// 10 ms and more. The kernel answers when a transaction is done, so nobody else need wait for that.
	defer func() { go conn.Close() }() //nolint:errcheck // all answers are in, or not to be had
	deadline := time.Now().Add(nftTimeout)
	if end, ok := ctx.Deadline(); ok && end.Before(deadline) {
		deadline = end
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return fmt.Errorf("open nf_tables: %w", err)
	}
	begin := nftMessage(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.NFNL_SUBSYS_NFTABLES, netlink.Request, nil)
	end := nftMessage(unix.NFNL_MSG_BATCH_END, 0, unix.NFNL_SUBSYS_NFTABLES, netlink.Request, nil)
	batch := append(append([]netlink.Message{begin}, b.messages...), end)
	if _, err := conn.SendMessages(batch); err != nil {
		return fmt.Errorf("write to nf_tables: %w", err)
	}
	for _, purpose := range b.purposes {
		if _, err := conn.Receive(); err != nil {
			return fmt.Errorf("nf_tables: %s: %w", purpose, err)
		}
	}
	return nil
}

func cString(s string) []byte { return append([]byte(s), 0) }
