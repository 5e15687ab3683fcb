// SPDX-License-Identifier: Apache-2.0

package network

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/vmlet/vmlet/pkg/vm"
)

var byValue = cmp.Options{
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmpopts.EquateEmpty(),
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func route(to, via string) vm.Route {
	r := vm.Route{To: netip.MustParsePrefix(to)}
	if via != "" {
		r.Via = addr(via)
	}
	return r
}

// bridged is the interface as the bridge plugin leaves it.
func bridged() *link {
	return &link{
		Name: "eth0", MAC: "0a:58:0a:01:00:05", MTU: 1450,
		Addrs:     prefixes("10.1.0.5/24", "fd00:1::5/64"),
		Connected: prefixes("10.1.0.0/24", "fd00:1::/64"),
		Routes:    []vm.Route{route("0.0.0.0/0", "10.1.0.1")},
	}
}

func parseResult(t *testing.T, text string) *types100.Result {
	t.Helper()
	r, err := create.CreateFromBytes([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	converted, err := types100.NewResultFromResult(r)
	if err != nil {
		t.Fatal(err)
	}
	return converted
}

func TestNICFromResult(t *testing.T) {
	ip4 := vm.NICAddress{Prefix: netip.MustParsePrefix("10.1.0.5/24"), Gateway: addr("10.1.0.1")}
	ip6 := vm.NICAddress{Prefix: netip.MustParsePrefix("fd00:1::5/64"), Gateway: addr("fd00:1::1")}
	for name, c := range map[string]struct {
		result string
		link   func(*link)
		ips    []vm.NICAddress
		routes []vm.Route
	}{
		"version 0.3.1": {
			result: `{"cniVersion":"0.3.1","interfaces":[{"name":"br0"},{"name":"eth0","sandbox":"/n"}],
				"ips":[{"version":"4","interface":1,"address":"10.1.0.5/24","gateway":"10.1.0.1"}],"routes":[{"dst":"0.0.0.0/0"}]}`,
			ips:    []vm.NICAddress{ip4},
			routes: []vm.Route{route("0.0.0.0/0", "10.1.0.1")},
		},
		"version 1.1.0 with both families": {
			result: `{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"/n","mtu":1450}],
				"ips":[{"interface":0,"address":"10.1.0.5/24","gateway":"10.1.0.1"},{"interface":0,"address":"fd00:1::5/64","gateway":"fd00:1::1"}]}`,
			ips:    []vm.NICAddress{ip4, ip6},
			routes: []vm.Route{route("0.0.0.0/0", "10.1.0.1")},
		},
		"an address of no interface is the sandbox's": {
			result: `{"cniVersion":"1.0.0","ips":[{"address":"10.1.0.5/24","gateway":"10.1.0.1"}]}`,
			ips:    []vm.NICAddress{ip4},
			routes: []vm.Route{route("0.0.0.0/0", "10.1.0.1")},
		},
		"addresses of other interfaces are not": {
			result: `{"cniVersion":"1.0.0","interfaces":[{"name":"br0"},{"name":"eth0","sandbox":"/n"},{"name":"net1","sandbox":"/n"}],
				"ips":[{"interface":0,"address":"10.1.0.1/24"},{"interface":2,"address":"10.9.0.1/24"},{"interface":1,"address":"10.1.0.5/24","gateway":"10.1.0.1"}]}`,
			ips:    []vm.NICAddress{ip4},
			routes: []vm.Route{route("0.0.0.0/0", "10.1.0.1")},
		},
		"only the host's side is described, the next hop is on the link": {
			result: `{"cniVersion":"1.0.0","interfaces":[{"name":"cali1"}],"ips":[{"interface":0,"address":"10.1.0.5/32"}]}`,
			link: func(l *link) {
				l.Addrs, l.Connected = prefixes("10.1.0.5/32"), nil
				l.Routes = []vm.Route{route("169.254.1.1/32", ""), route("0.0.0.0/0", "169.254.1.1")}
			},
			ips:    []vm.NICAddress{{Prefix: netip.MustParsePrefix("10.1.0.5/32")}},
			routes: []vm.Route{route("169.254.1.1/32", ""), route("0.0.0.0/0", "169.254.1.1")},
		},
		"neighbours are behind the host": {
			result: `{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/n"}],"ips":[{"interface":0,"address":"10.1.0.5/24","gateway":"10.1.0.1"}]}`,
			link: func(l *link) {
				l.Connected = nil
				l.Routes = []vm.Route{route("10.1.0.1/32", ""), route("10.1.0.0/24", "10.1.0.1")}
			},
			ips:    []vm.NICAddress{{Prefix: netip.MustParsePrefix("10.1.0.5/32"), Gateway: addr("10.1.0.1")}},
			routes: []vm.Route{route("10.1.0.1/32", ""), route("10.1.0.0/24", "10.1.0.1")},
		},
		"a gateway alone is no default route": {
			result: `{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/n"}],"ips":[{"interface":0,"address":"10.1.0.5/24","gateway":"10.1.0.1"}]}`,
			link:   func(l *link) { l.Routes = nil },
			ips:    []vm.NICAddress{ip4},
		},
		"what the plugin left to the guest": {
			result: `{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"/n"}],
				"ips":[{"interface":0,"address":"10.1.0.5/24","gateway":"10.1.0.1"},{"interface":0,"address":"fd00:1::5/64","gateway":"fd00:1::1"}],
				"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"},{"dst":"10.8.0.0/16","gw":"10.1.0.9","mtu":1400,"priority":7},
				{"dst":"10.7.0.0/16","scope":253},{"dst":"10.6.0.0/16","table":100},{"dst":"10.1.0.0/24"}]}`,
			link: func(l *link) { l.Addrs, l.Routes = nil, nil },
			ips:  []vm.NICAddress{ip4, ip6},
			routes: []vm.Route{
				route("10.7.0.0/16", ""), route("0.0.0.0/0", "10.1.0.1"), route("::/0", "fd00:1::1"),
				{To: netip.MustParsePrefix("10.8.0.0/16"), Via: addr("10.1.0.9"), MTU: 1400, Metric: 7},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := bridged()
			if c.link != nil {
				c.link(l)
			}
			got, err := nicOf(parseResult(t, c.result), l, "vmltap0")
			if err != nil {
				t.Fatal(err)
			}
			want := vm.NIC{Name: "eth0", Tap: "vmltap0", MAC: l.MAC, MTU: l.MTU, IPs: c.ips, Routes: c.routes}
			if diff := cmp.Diff(want, got, byValue); diff != "" {
				t.Errorf("NIC (-want +got):\n%s", diff)
			}
		})
	}
}

func TestResultWithoutAUsableAddressIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ result, says string }{
		"nothing":            {`{"cniVersion":"1.0.0"}`, "no address for interface eth0"},
		"no address":         {`{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/n"}]}`, "no address for interface eth0"},
		"another's address":  {`{"cniVersion":"1.0.0","interfaces":[{"name":"net1","sandbox":"/n"}],"ips":[{"interface":0,"address":"10.1.0.5/24"}]}`, "no address for interface eth0"},
		"an index too high":  {`{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/n"}],"ips":[{"interface":3,"address":"10.1.0.5/24"}]}`, "interface 3 of 1"},
		"an index below 0":   {`{"cniVersion":"1.0.0","ips":[{"interface":-1,"address":"10.1.0.5/24"}]}`, "interface -1 of 0"},
		"unspecified":        {`{"cniVersion":"1.0.0","ips":[{"address":"0.0.0.0/0"}]}`, "cannot be an interface's"},
		"a multicast group":  {`{"cniVersion":"1.0.0","ips":[{"address":"ff02::1/64"}]}`, "cannot be an interface's"},
		"the loopback":       {`{"cniVersion":"1.0.0","ips":[{"address":"127.0.0.1/8"}]}`, "cannot be an interface's"},
		"a null interface":   {`{"cniVersion":"1.0.0","interfaces":[null,{"name":"eth0","sandbox":"/n"}],"ips":[{"interface":0,"address":"10.1.0.5/24"}]}`, "no address for interface eth0"},
		"a null route's dst": {`{"cniVersion":"1.0.0","routes":[{"dst":"1.2.3.4/32"}]}`, "no address for interface eth0"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := nicOf(parseResult(t, c.result), bridged(), "vmltap0")
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error = %v, want one with %q", err, c.says)
			}
		})
	}
}

func TestDNSFromResult(t *testing.T) {
	got := dnsOf(types.DNS{Nameservers: []string{"10.0.0.10"}, Domain: "pod.example", Search: []string{"example"}, Options: []string{"ndots:5"}})
	want := vm.DNSConfig{Servers: []string{"10.0.0.10"}, Searches: []string{"pod.example", "example"}, Options: []string{"ndots:5"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("DNS (-want +got):\n%s", diff)
	}
}

// Whatever a plugin prints: an error or a NIC that the rules can be made for, never a panic.
func FuzzResult(f *testing.F) {
	f.Add(`{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"/n"}],"ips":[{"interface":0,"address":"10.1.0.5/24","gateway":"10.1.0.1"}],"routes":[{"dst":"0.0.0.0/0"}]}`)
	f.Add(`{"cniVersion":"0.3.1","ips":[{"version":"6","address":"fd00::5/64"}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		if !json.Valid([]byte(text)) {
			return
		}
		r, err := create.CreateFromBytes([]byte(text))
		if err != nil {
			return
		}
		result, err := types100.NewResultFromResult(r)
		if err != nil {
			return
		}
		nic, err := nicOf(result, bridged(), "vmltap0")
		if err != nil {
			return
		}
		p, err := newPort(nic, nicIndex, tapIndex)
		if err != nil || len(nic.IPs) == 0 {
			t.Fatalf("NIC %+v: %v", nic, err)
		}
		for _, ip := range nic.IPs {
			if !ip.Prefix.IsValid() {
				t.Fatalf("address %+v", ip)
			}
		}
		if b := connect([]port{p}); b.err != nil {
			t.Fatal(b.err)
		}
	})
}
