// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Wire implements lifecycle.Network. NotFound if the namespace is gone, FailedPrecondition
// if a tap is neither in the host's namespace nor in the sandbox's. What it did before it
// failed is not undone: the interface stays closed until all taps are in place, and the taps
// go with their QEMU.
func (n *Network) Wire(ctx context.Context, network vm.Network) error {
	if err := n.wire(ctx, network); err != nil {
		return fmt.Errorf("wire sandbox %s: %w", network.Request.SandboxID, err)
	}
	return nil
}

func (n *Network) wire(ctx context.Context, network vm.Network) error {
	id := network.Request.SandboxID
	if err := checkID(id); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return withNetNS(n.conf.Paths.SandboxNetNS(id), func(netns ns.NetNS) error {
		return wireNICs(ctx, netns, network.NICs)
	})
}

// TapDown implements lifecycle.Network.
func (*Network) TapDown(ctx context.Context, nic vm.NIC) error {
	if err := tapDown(ctx, nic.Tap); err != nil {
		return fmt.Errorf("take the tap of NIC %s down: %w", nic.Name, err)
	}
	return nil
}

func tapDown(ctx context.Context, name string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	defer host.Close()
	tap, err := tapByName(host, name)
	if err != nil || tap == nil {
		return err
	}
	return host.LinkSetDown(tap)
}

func wireNICs(ctx context.Context, netns ns.NetNS, nics []vm.NIC) error {
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	defer host.Close()
	sandbox, err := linksIn(netns)
	if err != nil {
		return err
	}
	defer sandbox.Close()

	ports := make([]port, 0, len(nics))
	for _, nic := range nics {
		if err := moveTap(host, sandbox, netns, nic.Tap); err != nil {
			return err
		}
		p, err := portOf(sandbox, nic)
		if err != nil {
			return err
		}
		ports = append(ports, p)
	}
	if err := connect(ports).send(ctx, int(netns.Fd())); err != nil {
		return err
	}
	// Up last: until then no frame of the guest meets a tap without rules.
	for _, p := range ports {
		if err := sandbox.LinkSetUp(&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Index: int(p.tap)}}); err != nil {
			return fmt.Errorf("set tap %s up: %w", p.Tap, err)
		}
	}
	return nil
}

// moveTap brings a tap into the sandbox's namespace, if it is not there yet. A tap in the
// host's is a new QEMU's: an older one of the same name in the sandbox's, whose QEMU
// is about to go, makes room for it.
func moveTap(host, sandbox *netlink.Handle, netns ns.NetNS, name string) error {
	fresh, err := tapByName(host, name)
	if err != nil {
		return err
	}
	old, err := tapByName(sandbox, name)
	if err != nil {
		return err
	}
	switch {
	case fresh == nil && old == nil:
		return fmt.Errorf("tap %s is neither in the host's netns nor in the sandbox's: %w", name, errdefs.ErrFailedPrecondition)
	case fresh == nil:
		return nil
	case old != nil:
		if err := sandbox.LinkDel(old); err != nil {
			return fmt.Errorf("remove the former tap %s: %w", name, err)
		}
	}
	if err := host.LinkSetNsFd(fresh, int(netns.Fd())); err != nil {
		return fmt.Errorf("move tap %s: %w", name, err)
	}
	return nil
}

// tapByName is nil if there is no interface of the name. An interface that is not a tap is
// not ours to touch.
func tapByName(h *netlink.Handle, name string) (netlink.Link, error) {
	dev, err := h.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for tap %s: %w", name, err)
	}
	if tap, ok := dev.(*netlink.Tuntap); !ok || tap.Mode != netlink.TUNTAP_MODE_TAP {
		return nil, fmt.Errorf("interface %s is no tap: %w", name, errdefs.ErrFailedPrecondition)
	}
	return dev, nil
}

// portOf finds the devices of a NIC, and gives the tap the MTU of the NIC.
func portOf(sandbox *netlink.Handle, nic vm.NIC) (port, error) {
	dev, err := sandbox.LinkByName(nic.Name)
	if err != nil {
		return port{}, fmt.Errorf("look for interface %s: %w", nic.Name, err)
	}
	tap, err := sandbox.LinkByName(nic.Tap)
	if err != nil {
		return port{}, fmt.Errorf("look for tap %s: %w", nic.Tap, err)
	}
	if nic.MTU > 0 && tap.Attrs().MTU != nic.MTU {
		if err := sandbox.LinkSetMTU(tap, nic.MTU); err != nil {
			return port{}, fmt.Errorf("set MTU %d of tap %s: %w", nic.MTU, nic.Tap, err)
		}
	}
	return newPort(nic, dev.Attrs().Index, tap.Attrs().Index)
}
