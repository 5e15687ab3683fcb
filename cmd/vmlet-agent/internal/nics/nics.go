// SPDX-License-Identifier: Apache-2.0

// Package nics gives interfaces that were plugged into the machine their names, addresses and routes.
package nics

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// maxWait bounds how long a device is waited for.
const maxWait = time.Minute

// lookAgain is the time between two looks where the kernel has told of nothing.
const lookAgain = time.Second

// NICs are the guest's interfaces. For concurrent use.
type NICs struct {
	mu sync.Mutex // one at a time: names and rules are shared
	// kind is rtnetlink's of an interface that is a device: a VLAN or a bridge on one has its MAC too.
	kind string
}

// New returns the interfaces of the guest that the agent runs in.
func New() *NICs { return &NICs{kind: "device"} }

// Set gives the interfaces what the request says, and returns when they have it. After an error, what came before it stays.
func (n *NICs) Set(ctx context.Context, req *agentv1.SetNICsRequest) error {
	plans, err := plansOf(req.GetNics())
	if err != nil {
		return err
	}
	wait := min(max(time.Duration(req.GetWaitNano()), 0), maxWait)
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	n.mu.Lock()
	defer n.mu.Unlock()
	links, err := n.await(ctx, plans)
	if err != nil {
		return err
	}
	if err := rename(plans, links); err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
	}
	for i, p := range plans {
		if err := configure(p, links[i]); err != nil {
			return fmt.Errorf("interface %s: %w: %w", p.name, err, errdefs.ErrFailedPrecondition)
		}
	}
	return setRules(plans)
}

// await returns the interfaces of the plans, in their order, once all are there.
func (n *NICs) await(ctx context.Context, plans []plan) ([]netlink.Link, error) {
	news := make(chan netlink.LinkUpdate, 64)
	done := make(chan struct{})
	defer close(done)
	if err := netlink.LinkSubscribe(news, done); err != nil {
		return nil, fmt.Errorf("listen for interfaces: %w", err)
	}
	again := time.NewTicker(lookAgain) // a message that the kernel had no room for is lost
	defer again.Stop()
	for {
		links, missing, err := n.find(plans)
		if err != nil || missing == "" {
			return links, err
		}
		select {
		case <-news:
		case <-again.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("no interface with the MAC %s has come: %w", missing, errdefs.ErrUnavailable)
		}
	}
}

func (n *NICs) find(plans []plan) (links []netlink.Link, missing string, err error) {
	all, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, "", fmt.Errorf("list interfaces: %w", err)
	}
	for _, p := range plans {
		link := n.byMAC(all, p.mac.String())
		if link == nil {
			return nil, p.mac.String(), nil
		}
		links = append(links, link)
	}
	return links, "", nil
}

func (n *NICs) byMAC(all []netlink.Link, mac string) netlink.Link {
	for _, l := range all {
		if l.Type() == n.kind && l.Attrs().HardwareAddr.String() == mac {
			return l
		}
	}
	return nil
}

// rename gives interfaces their names. One whose name another of them still has gets it from that, which takes two steps.
func rename(plans []plan, links []netlink.Link) error {
	var wrong []int
	for i, p := range plans {
		if links[i].Attrs().Name != p.name {
			wrong = append(wrong, i)
		}
	}
	for _, i := range wrong {
		if err := setName(links[i], fmt.Sprintf("vmlet%d", links[i].Attrs().Index)); err != nil {
			return err
		}
	}
	for _, i := range wrong {
		if err := setName(links[i], plans[i].name); err != nil {
			return err
		}
	}
	return nil
}

// setName renames an interface, which has to be down for that.
func setName(l netlink.Link, name string) error {
	if err := netlink.LinkSetDown(l); err != nil {
		return fmt.Errorf("set %s down: %w", l.Attrs().Name, err)
	}
	if err := netlink.LinkSetName(l, name); err != nil {
		return fmt.Errorf("name the interface with the MAC %s %s: %w", l.Attrs().HardwareAddr, name, err)
	}
	return nil
}

func configure(p plan, l netlink.Link) error {
	if p.mtu > 0 && l.Attrs().MTU != p.mtu {
		if err := netlink.LinkSetMTU(l, p.mtu); err != nil {
			return fmt.Errorf("set MTU %d: %w", p.mtu, err)
		}
	}
	// Addresses are CNI's to give: those that a router's advertisement adds, and link-local ones that do not follow from the MAC,
	// the host drops.
	for _, setting := range [][2]string{{"accept_ra", "0"}, {"addr_gen_mode", "0"}} {
		if err := set(p.name, setting[0], setting[1]); err != nil {
			return err
		}
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("set it up: %w", err)
	}
	for _, address := range p.addresses {
		// Nobody is asked whether the address is free: it was given to this machine.
		if err := netlink.AddrReplace(l, &netlink.Addr{IPNet: address, Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("add address %s: %w", address, err)
		}
	}
	for _, r := range p.routes(l.Attrs().Index) {
		if err := addRoute(&r); err != nil {
			return fmt.Errorf("add route to %s: %w", r.Dst, err)
		}
	}
	return nil
}

// addRoute leaves the guest's own ways alone: where there is one to the same network, that stays.
func addRoute(r *netlink.Route) error {
	if r.Table != unix.RT_TABLE_MAIN {
		return netlink.RouteReplace(r)
	}
	if err := netlink.RouteAdd(r); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// set writes a setting of IPv6, if the kernel has that.
func set(name, setting, value string) error {
	path := filepath.Join("/proc/sys/net/ipv6/conf", name, setting)
	old, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && strings.TrimSpace(string(old)) == value {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return fmt.Errorf("set %s: %w", setting, err)
	}
	return nil
}
