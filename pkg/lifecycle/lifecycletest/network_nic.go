// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

// AttachNIC implements lifecycle.Network. The interface gets what was asked for, else a MAC and an address that no other
// has, and a default route. A planned failure leaves nothing behind, unless it wraps revert.ErrIncomplete: then the attachment is held until DetachNIC.
func (n *Network) AttachNIC(ctx context.Context, req vm.NICRequest) (vm.NIC, error) {
	id, name := req.Sandbox.SandboxID, req.Spec.Name
	if err := checkNIC(req.Spec); err != nil {
		return vm.NIC{}, err
	}
	if err := n.enter(ctx, "AttachNIC", id); err != nil {
		if errors.Is(err, revert.ErrIncomplete) {
			n.mu.Lock()
			n.attached[id].nics = append(n.attached[id].nics, vm.NIC{Name: name})
			n.mu.Unlock()
		}
		return vm.NIC{}, err
	}
	defer n.mu.Unlock()
	a := n.attached[id]
	if a == nil || !a.netns {
		return vm.NIC{}, fmt.Errorf("network of %s: netns: %w", id, errdefs.ErrNotFound)
	}
	if err := n.knows(req); err != nil {
		return vm.NIC{}, err
	}
	wanted := req.Wanted()
	if slices.ContainsFunc(a.nics, func(has vm.NIC) bool { return has.Name == name }) {
		return vm.NIC{}, fmt.Errorf("attachment %s of %s: %w", name, id, errdefs.ErrAlreadyExists)
	}
	n.addrs++
	nic := vm.NIC{
		Name: name, Tap: fmt.Sprintf("vml%.10s%d", id, req.Number), MAC: wanted.MAC, MTU: 1500,
		Routes: []vm.Route{{To: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.AddrFrom4([4]byte{10, 88, 0, 1})}, {To: netip.MustParsePrefix("10.99.0.0/16")}},
	}
	if nic.MAC == "" {
		nic.MAC = fmt.Sprintf("02:99:00:00:%02x:%02x", n.addrs>>8, n.addrs&255)
	}
	for _, ip := range wanted.IPs {
		addr, err := vm.AddrOf(ip)
		if err != nil {
			return vm.NIC{}, err
		}
		nic.IPs = append(nic.IPs, vm.NICAddress{Prefix: netip.PrefixFrom(addr, 16)})
	}
	if len(nic.IPs) == 0 {
		nic.IPs = []vm.NICAddress{{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 88, byte((n.addrs + 1) >> 8), byte(n.addrs + 1)}), 16)}}
	}
	a.nics = append(a.nics, nic)
	a.configs[name] = slices.Clone(req.Config)
	if len(req.Config) == 0 {
		a.configs[name] = []byte(`{"name":"` + req.Spec.Network + `"}`)
	}
	return nic, nil
}

// checkNIC refuses what cannot be a NIC.
func checkNIC(spec vm.NICSpec) error {
	if err := checkNICName(spec.Name); err != nil {
		return err
	}
	for _, ip := range spec.IPs {
		if _, err := vm.AddrOf(ip); err != nil {
			return fmt.Errorf("ips: %w: %w", err, errdefs.ErrInvalidArgument)
		}
	}
	for _, word := range []string{spec.PortID, spec.Subnet, spec.VPC, spec.Tag} {
		if strings.ContainsAny(word, ";=\n") {
			return fmt.Errorf("%q cannot be told to plugins: %w", word, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

func checkNICName(name string) error {
	if name == "" || name == vm.PrimaryNIC || len(name) > 15 || strings.ContainsAny(name, "./ ") {
		return fmt.Errorf("NIC name %q: %w", name, errdefs.ErrInvalidArgument)
	}
	return nil
}

// knows refuses a network that is not there. n.mu is held.
func (n *Network) knows(req vm.NICRequest) error {
	if req.Spec.Network != "" && (req.Spec.Network != "second" || n.forgotten) {
		return fmt.Errorf("no network %q: %w", req.Spec.Network, errdefs.ErrNotFound)
	}
	return nil
}

// Forget has the node know the network that is named second no more.
func (n *Network) Forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forgotten = true
}

// PlanNIC implements lifecycle.Network.
func (n *Network) PlanNIC(ctx context.Context, req vm.NICRequest) error {
	if err := checkNIC(req.Spec); err != nil {
		return err
	}
	if err := n.enter(ctx, "PlanNIC", ""); err != nil {
		return err
	}
	defer n.mu.Unlock()
	return n.knows(req)
}

// NICConfig implements lifecycle.Network.
func (n *Network) NICConfig(ctx context.Context, sandboxID, name string) ([]byte, error) {
	if err := n.enter(ctx, "NICConfig", sandboxID); err != nil {
		return nil, err
	}
	defer n.mu.Unlock()
	if a := n.attached[sandboxID]; a != nil && slices.ContainsFunc(a.nics, func(has vm.NIC) bool { return has.Name == name }) {
		return slices.Clone(a.configs[name]), nil
	}
	return nil, fmt.Errorf("configuration of %s of %s: %w", name, sandboxID, errdefs.ErrNotFound)
}

// DetachNIC implements lifecycle.Network.
func (n *Network) DetachNIC(ctx context.Context, req vm.NICRequest) error {
	id := req.Sandbox.SandboxID
	if err := checkNICName(req.Spec.Name); err != nil {
		return err
	}
	if err := n.enter(ctx, "DetachNIC", id); err != nil {
		return err
	}
	defer n.mu.Unlock()
	if a := n.attached[id]; a != nil {
		a.nics = slices.DeleteFunc(a.nics, func(has vm.NIC) bool { return has.Name == req.Spec.Name })
	}
	return nil
}

// NICs are the names of a sandbox's attachments beside the first.
func (n *Network) NICs(id string) (names []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a := n.attached[id]; a != nil {
		for _, nic := range a.nics {
			names = append(names, nic.Name)
		}
	}
	return names
}
