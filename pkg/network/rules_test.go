// SPDX-License-Identifier: Apache-2.0

package network

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"

	"github.com/vmlet/vmlet/pkg/network/internal/frame"
	"github.com/vmlet/vmlet/pkg/vm"
)

const (
	nicIndex = 2
	tapIndex = 3
)

func testPort(t *testing.T, ips ...string) port {
	t.Helper()
	nic := vm.NIC{Name: "eth0", Tap: "vml00112233440", MAC: "0a:58:0a:01:00:05", MTU: 1450}
	for _, ip := range ips {
		nic.IPs = append(nic.IPs, vm.NICAddress{Prefix: netip.MustParsePrefix(ip)})
	}
	p, err := newPort(nic, nicIndex, tapIndex)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func testGuest(p port) frame.Guest {
	return frame.Guest{
		MAC:       p.mac,
		IP4:       netip.MustParseAddr("10.1.0.5"),
		IP6:       netip.MustParseAddr("fd00:1::5"),
		LinkLocal: netip.MustParseAddr("fe80::858:aff:fe01:5"),
		Gateway:   netip.MustParseAddr("10.1.0.1"),
		Gateway6:  netip.MustParseAddr("fd00:1::1"),
	}
}

func TestGuestSaysNothingInAnothersName(t *testing.T) {
	p := testPort(t, "10.1.0.5/24", "fd00:1::5/64")
	for _, c := range frame.Cases(testGuest(p)) {
		t.Run(c.Name, func(t *testing.T) {
			if got := passes(t, p, c.Frame); got != c.Passes {
				t.Errorf("passes = %v, want %v", got, c.Passes)
			}
		})
	}
}

func TestEveryAddressOfTheNICPasses(t *testing.T) {
	p := testPort(t, "10.1.0.5/24", "192.168.7.8/32", "fd00:1::5/64", "fd00:2::6/128")
	for _, ip := range p.IPs {
		src := ip.Prefix.Addr()
		f := frame.Ethernet(frame.Broadcast, p.mac, frame.TypeIP4, nil)
		if src.Is4() {
			f = append(f, frame.IP4(src, src, frame.ProtoUDP, frame.UDP(1, 2, nil))...)
		} else {
			f = frame.Ethernet(frame.Broadcast, p.mac, frame.TypeIP6, frame.IP6(src, src, frame.ProtoUDP, frame.UDP(1, 2, nil)))
		}
		if !passes(t, p, f) {
			t.Errorf("a packet from %s does not pass", src)
		}
	}
}

func TestGuestWithoutIPv6AddressSpeaksNoIPv6(t *testing.T) {
	p := testPort(t, "10.1.0.5/24")
	for _, c := range frame.Cases(testGuest(p)) {
		if binary.BigEndian.Uint16(c.Frame[12:]) == frame.TypeIP6 && passes(t, p, c.Frame) {
			t.Errorf("%s passes", c.Name)
		}
	}
}

func TestEverythingGoesToTheGuest(t *testing.T) {
	p := testPort(t, "10.1.0.5/24")
	rules := p.rules()
	if rules[0].chain != "eth0-to-guest" {
		t.Fatalf("the first rule is in %s", rules[0].chain)
	}
	out := (&machine{port: p}).run(rules[0].exprs, nil)
	if out != sent(tapIndex) {
		t.Errorf("a frame for the guest is %s, want %s", out, sent(tapIndex))
	}
	for _, r := range rules[1:] {
		if r.chain == "eth0-to-guest" {
			t.Errorf("a second rule is in %s", r.chain)
		}
	}
}

func TestPortNeedsAnEthernetAddress(t *testing.T) {
	for _, mac := range []string{"", "02:00", "02:00:5e:10:00:00:00:01"} {
		if _, err := newPort(vm.NIC{Name: "eth0", MAC: mac}, 1, 2); err == nil {
			t.Errorf("MAC %q is accepted", mac)
		}
	}
}

var update = flag.Bool("update", false, "write the golden files anew")

// The golden file shows what a change of the rules changes; whether they are right is for
// the tests above.
func TestRulesAreTheGoldenOnes(t *testing.T) {
	var b strings.Builder
	for _, r := range testPort(t, "10.1.0.5/24", "fd00:1::5/64").rules() {
		b.WriteString(r.chain)
		for _, e := range r.exprs {
			b.WriteString(" | " + describe(e))
		}
		b.WriteByte('\n')
	}
	const golden = "testdata/rules.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("rules (-want +got; write with -update):\n%s", diff)
	}
}

var bases = map[expr.PayloadBase]string{
	expr.PayloadBaseLLHeader: "link", expr.PayloadBaseNetworkHeader: "net", expr.PayloadBaseTransportHeader: "transport",
}

func describe(e any) string {
	switch e := e.(type) {
	case *expr.Payload:
		return fmt.Sprintf("%s[%d:%d]", bases[e.Base], e.Offset, e.Offset+e.Len)
	case *expr.Cmp:
		return fmt.Sprintf("%s %x", map[expr.CmpOp]string{expr.CmpOpEq: "==", expr.CmpOpNeq: "!="}[e.Op], e.Data)
	case *expr.Meta:
		return "l4proto"
	case *expr.Immediate:
		return fmt.Sprintf("device %d", binaryutil.NativeEndian.Uint32(e.Data))
	case *expr.Counter:
		return "count"
	case *expr.Verdict:
		if e.Kind == expr.VerdictDrop {
			return "drop"
		}
		return "jump " + e.Chain
	case fwd:
		return "fwd"
	default:
		return fmt.Sprintf("%T", e)
	}
}

// outcome is what a rule does with a frame; "" is to go on with the next.
type outcome string

const dropped outcome = "dropped"

func sent(index uint32) outcome { return outcome(fmt.Sprintf("sent to %d", index)) }

// passes runs a frame from the tap through the rules, as nf_tables does.
func passes(t *testing.T, p port, f []byte) bool {
	t.Helper()
	m := &machine{port: p}
	switch out := m.chain(p.fromGuest(), f); out {
	case sent(nicIndex):
		return true
	case dropped, "": // the policy
		return false
	default:
		t.Fatalf("a frame of the guest is %s", out)
		return false
	}
}

// machine is as much of nf_tables as our rules use.
type machine struct {
	port     port
	register []byte
}

func (m *machine) chain(name string, f []byte) outcome {
	for _, r := range m.port.rules() {
		if r.chain != name {
			continue
		}
		if out := m.run(r.exprs, f); out != "" {
			return out
		}
	}
	return ""
}

func (m *machine) run(exprs []any, f []byte) outcome {
	for _, e := range exprs {
		switch e := e.(type) {
		case *expr.Payload:
			if m.register = load(f, e); m.register == nil {
				return ""
			}
		case *expr.Meta:
			proto, _, ok := transport(f)
			if !ok {
				return ""
			}
			m.register = []byte{proto}
		case *expr.Cmp:
			if bytes.Equal(m.register, e.Data) != (e.Op == expr.CmpOpEq) {
				return ""
			}
		case *expr.Immediate:
			m.register = e.Data
		case *expr.Verdict:
			if e.Kind == expr.VerdictDrop {
				return dropped
			}
			return m.chain(e.Chain, f)
		case fwd:
			return sent(binaryutil.NativeEndian.Uint32(m.register))
		}
	}
	return ""
}

// load reads from a frame; nil if it is too short.
func load(f []byte, e *expr.Payload) []byte {
	start := 0
	switch e.Base {
	case expr.PayloadBaseLLHeader:
	case expr.PayloadBaseNetworkHeader:
		start = network(f)
	case expr.PayloadBaseTransportHeader:
		_, at, ok := transport(f)
		if !ok || at < 0 {
			return nil
		}
		start = at
	}
	if start+int(e.Offset+e.Len) > len(f) {
		return nil
	}
	return f[start+int(e.Offset):][:e.Len]
}

// network is where the network header starts: behind the outer tag, if there is one.
func network(f []byte) int {
	if binary.BigEndian.Uint16(f[12:]) == frame.TypeVLAN {
		return 18
	}
	return 14
}

// transport finds protocol and start of the transport header, past the extension headers of
// IPv6. The start is negative in a later fragment.
func transport(f []byte) (proto byte, at int, ok bool) {
	at = network(f)
	switch binary.BigEndian.Uint16(f[at-2:]) {
	case frame.TypeIP4:
		if len(f) < at+20 {
			return 0, 0, false
		}
		return f[at+9], at + int(f[at]&15)*4, true
	case frame.TypeIP6:
	default:
		return 0, 0, false
	}
	if len(f) < at+40 {
		return 0, 0, false
	}
	proto, at = f[at+6], at+40
	for len(f) >= at+8 {
		switch proto {
		case frame.ProtoHopByHop:
			proto, at = f[at], at+8+8*int(f[at+1])
		case frame.ProtoFragment:
			if binary.BigEndian.Uint16(f[at+2:])&^7 != 0 {
				return f[at], -1, true
			}
			proto, at = f[at], at+8
		default:
			return proto, at, true
		}
	}
	return proto, at, true
}

func TestLinkLocalFollowsFromTheMAC(t *testing.T) {
	got := linkLocal(net.HardwareAddr{0x0a, 0x58, 0x0a, 0x01, 0x00, 0x05})
	if want := netip.MustParseAddr("fe80::858:aff:fe01:5"); got != want {
		t.Errorf("link-local = %s, want %s", got, want)
	}
}
