// SPDX-License-Identifier: Apache-2.0

package nics

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// inNetNS runs a test in a network namespace of its own, which takes root. Its thread never comes back to other goroutines.
func inNetNS(t *testing.T, do func(n *NICs) error) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			ended <- fmt.Errorf("make a network namespace: %w", err)
			return
		}
		ended <- do(&NICs{kind: "veth"})
	}()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// beside runs do on another thread in the same network namespace.
func beside(do func() error) <-chan error {
	ended := make(chan error, 1)
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		ended <- err
		return ended
	}
	go func() {
		runtime.LockOSThread()
		defer here.Close() //nolint:errcheck // nothing was written
		if err := unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); err != nil {
			ended <- err
			return
		}
		ended <- do()
	}()
	return ended
}

func macOf(n byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, n} }

func plug(name string, n byte) error {
	return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, HardwareAddr: macOf(n)}, PeerName: name + "-peer"})
}

func nic(name string, n byte) *agentv1.NIC {
	return &agentv1.NIC{
		Mac: macOf(n).String(), Name: name, Mtu: 1400, Addresses: []string{fmt.Sprintf("10.0.0.%d/24", n), fmt.Sprintf("fd00::%d/64", n)},
		Routes: []*agentv1.NICRoute{{To: "10.9.0.0/16", Via: "10.0.0.254"}, {To: "192.0.2.1/32"}}, Gateways: []string{"10.0.0.254", "fd00::fe"},
	}
}

func TestSet(t *testing.T) {
	inNetNS(t, func(n *NICs) error {
		// The kernel's names are those of the other: each gets its own.
		for name, number := range map[string]byte{"eth0": 1, "eth1": 3, "eth2": 2} {
			if err := plug(name, number); err != nil {
				return err
			}
		}
		req := &agentv1.SetNICsRequest{Nics: []*agentv1.NIC{nic("eth1", 2), nic("eth2", 3)}, WaitNano: int64(time.Second)}
		for range 2 {
			if err := n.Set(t.Context(), req); err != nil {
				return err
			}
		}
		for name, number := range map[string]byte{"eth0": 1, "eth1": 2, "eth2": 3} {
			l, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			if l.Attrs().HardwareAddr.String() != macOf(number).String() {
				t.Errorf("%s has the MAC %s", name, l.Attrs().HardwareAddr)
			}
			addresses, err := netlink.AddrList(l, netlink.FAMILY_V4)
			if err != nil {
				return err
			}
			if number == 1 {
				if len(addresses) > 0 || l.Attrs().Flags&net.FlagUp != 0 {
					t.Errorf("the first one was touched: %v", addresses)
				}
				continue
			}
			if len(addresses) != 1 || addresses[0].IPNet.String() != fmt.Sprintf("10.0.0.%d/24", number) || l.Attrs().MTU != 1400 || l.Attrs().Flags&net.FlagUp == 0 {
				t.Errorf("%s: %v, %+v", name, addresses, l.Attrs())
			}
			// What leaves by its address leaves by it.
			for _, to := range []string{"10.0.0.77", "8.8.8.8"} {
				routes, err := netlink.RouteGetWithOptions(net.ParseIP(to), &netlink.RouteGetOptions{SrcAddr: addresses[0].IP})
				if err != nil || len(routes) != 1 || routes[0].LinkIndex != l.Attrs().Index {
					t.Errorf("from %s to %s: %v, %v", addresses[0].IP, to, routes, err)
				}
			}
		}
		if got := ruled(t); !slices.Equal(got, []string{"10.0.0.2", "10.0.0.3", "fd00::2", "fd00::3"}) {
			t.Errorf("rules for %v", got)
		}
		req.Nics = req.GetNics()[:1]
		if err := n.Set(t.Context(), req); err != nil {
			return err
		}
		if got := ruled(t); !slices.Equal(got, []string{"10.0.0.2", "fd00::2"}) {
			t.Errorf("rules for %v after one was detached", got)
		}
		return nil
	})
}

func ruled(t *testing.T) (addresses []string) {
	t.Helper()
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := netlink.RuleList(family)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rules {
			if r.Priority == rulePriority {
				addresses = append(addresses, r.Src.IP.String())
			}
		}
	}
	slices.Sort(addresses)
	return addresses
}

func TestTheGuestsOwnWaysStay(t *testing.T) {
	inNetNS(t, func(n *NICs) error {
		for name, number := range map[string]byte{"eth0": 1, "eth1": 2} {
			if err := plug(name, number); err != nil {
				return err
			}
		}
		first, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(first); err != nil {
			return err
		}
		_, to, err := net.ParseCIDR("10.9.0.0/16")
		if err != nil {
			return err
		}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: first.Attrs().Index, Dst: to, Scope: netlink.SCOPE_LINK}); err != nil {
			return err
		}
		if err := n.Set(t.Context(), &agentv1.SetNICsRequest{Nics: []*agentv1.NIC{nic("eth1", 2)}, WaitNano: int64(time.Second)}); err != nil {
			return err
		}
		routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_MAIN, Dst: to}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
		if err != nil || len(routes) != 1 || routes[0].LinkIndex != first.Attrs().Index {
			t.Errorf("routes to %s: %v, %v", to, routes, err)
		}
		return nil
	})
}

func TestADeviceIsWaitedFor(t *testing.T) {
	inNetNS(t, func(n *NICs) error {
		req := &agentv1.SetNICsRequest{Nics: []*agentv1.NIC{nic("eth1", 2)}}
		if err := n.Set(t.Context(), req); !errdefs.IsUnavailable(err) {
			t.Errorf("without a device: %v", err)
		}
		req.WaitNano = int64(time.Minute)
		ended := beside(func() error { return n.Set(t.Context(), req) })
		if err := plug("new", 2); err != nil {
			return err
		}
		return <-ended
	})
}

func TestWhatIsNoNIC(t *testing.T) {
	for name, change := range map[string]func(*agentv1.NIC){
		"no name": func(n *agentv1.NIC) { n.Name = "" }, "a long name": func(n *agentv1.NIC) { n.Name = "abcdefghijklmnop" },
		"no MAC": func(n *agentv1.NIC) { n.Mac = "x" }, "no address": func(n *agentv1.NIC) { n.Addresses = []string{"10.0.0.1"} },
		"no route": func(n *agentv1.NIC) { n.Routes[0].To = "x" }, "no router": func(n *agentv1.NIC) { n.Routes[0].Via = "x" }, "no gateway": func(n *agentv1.NIC) { n.Gateways = []string{"x"} },
	} {
		bad := nic("eth1", 2)
		change(bad)
		if err := New().Set(t.Context(), &agentv1.SetNICsRequest{Nics: []*agentv1.NIC{bad}}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestReaddress: an interface changes its MAC and addresses in one, under the name that it has, and has no others after it.
func TestReaddress(t *testing.T) {
	inNetNS(t, func(n *NICs) error {
		if err := plug("eth0", 1); err != nil {
			return err
		}
		former := nic("eth0", 1)
		if err := n.Set(t.Context(), &agentv1.SetNICsRequest{Nics: []*agentv1.NIC{former}}); err != nil {
			return err
		}
		now := &agentv1.NIC{
			Mac: macOf(7).String(), Name: "eth0", Addresses: []string{"10.0.0.7/24", "fd00::7/64"},
			Routes: []*agentv1.NICRoute{{To: "0.0.0.0/0", Via: "10.0.0.254"}},
		}
		req := &agentv1.ReaddressRequest{FormerMac: former.GetMac(), FormerAddresses: former.GetAddresses(), Now: now}
		for range 2 {
			if err := n.Readdress(req); err != nil {
				return err
			}
		}
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		if l.Attrs().HardwareAddr.String() != now.GetMac() || l.Attrs().Flags&net.FlagUp == 0 {
			t.Errorf("it is %+v", l.Attrs())
		}
		var has []string
		for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			all, err := netlink.AddrList(l, family)
			if err != nil {
				return err
			}
			for _, a := range all {
				if !a.IP.IsLinkLocalUnicast() {
					has = append(has, a.IPNet.String())
				}
			}
		}
		if !slices.Equal(has, now.GetAddresses()) {
			t.Errorf("it has the addresses %v", has)
		}
		routes, err := netlink.RouteGet(net.ParseIP("8.8.8.8"))
		if err != nil || len(routes) != 1 || routes[0].Gw.String() != "10.0.0.254" {
			t.Errorf("the way out is %v, %v", routes, err)
		}
		req.FormerMac, req.Now.Mac = macOf(8).String(), macOf(9).String()
		if err := n.Readdress(req); !errdefs.IsUnavailable(err) {
			t.Errorf("of one that is not there: %v", err)
		}
		return nil
	})
}
