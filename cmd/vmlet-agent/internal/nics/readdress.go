// SPDX-License-Identifier: Apache-2.0

package nics

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// Readdress gives an interface another MAC and other addresses, in the place of those that it had. What else the guest has
// on it stays.
func (n *NICs) Readdress(req *agentv1.ReaddressRequest) error {
	was, err := planOf(&agentv1.NIC{Name: "former", Mac: req.GetFormerMac(), Addresses: req.GetFormerAddresses()})
	if err != nil {
		return fmt.Errorf("former: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	now, err := planOf(req.GetNow())
	if err != nil {
		return fmt.Errorf("now: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	all, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list interfaces: %w", err)
	}
	link := n.byMAC(all, now.mac.String())
	if link == nil {
		link = n.byMAC(all, was.mac.String())
	}
	if link == nil {
		return fmt.Errorf("no interface has the MAC %s or %s: %w", was.mac, now.mac, errdefs.ErrUnavailable)
	}
	if err := readdress(link, was, now); err != nil {
		return fmt.Errorf("interface %s: %w: %w", link.Attrs().Name, err, errdefs.ErrFailedPrecondition)
	}
	return nil
}

func readdress(link netlink.Link, was, now plan) error {
	if !bytes.Equal(link.Attrs().HardwareAddr, now.mac) {
		// Down, so that the link-local address follows.
		if err := netlink.LinkSetDown(link); err != nil {
			return fmt.Errorf("set it down: %w", err)
		}
		if err := netlink.LinkSetHardwareAddr(link, now.mac); err != nil {
			return fmt.Errorf("give it the MAC %s: %w", now.mac, err)
		}
	}
	for _, address := range was.addresses {
		if slices.ContainsFunc(now.addresses, func(a *net.IPNet) bool { return a.String() == address.String() }) {
			continue
		}
		err := netlink.AddrDel(link, &netlink.Addr{IPNet: address})
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove address %s: %w", address, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set it up: %w", err)
	}
	for _, address := range now.addresses {
		if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: address, Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("add address %s: %w", address, err)
		}
	}
	// With the old addresses the ways by them have gone.
	for _, r := range now.routes(link.Attrs().Index) {
		if r.Table != unix.RT_TABLE_MAIN {
			continue
		}
		if err := addRoute(&r); err != nil {
			return fmt.Errorf("add route to %s: %w", r.Dst, err)
		}
	}
	return nil
}
