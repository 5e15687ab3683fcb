// SPDX-License-Identifier: Apache-2.0

package arktos

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// attachMissing attaches the NICs of a pod that its sandbox does not have.
func (s *Server) attachMissing(ctx context.Context, sb vm.Sandbox, nics []nic) error {
	if sb.Status.State != vm.SandboxReady {
		return nil // who wants more of it is refused
	}
	for _, n := range nics {
		if _, given := ofNetwork(sb, n.Name); n.primary() || given {
			continue
		}
		if has, there := sb.Status.AttachedNIC(n.Name); there && has.State == vm.NICAttached {
			continue
		}
		if err := s.attach(ctx, sb, n); err != nil {
			return fmt.Errorf("annotation %s: %w", annotationNICs, err)
		}
	}
	return nil
}

// attach attaches a NIC, or goes on with one that is there as asked.
func (s *Server) attach(ctx context.Context, sb vm.Sandbox, n nic) error {
	if has, given := ofNetwork(sb, n.Name); given {
		if n.asks(has) {
			return nil
		}
		return fmt.Errorf("%s is of the pod's network, with another port, subnet, VPC, tag or address: %w", n.Name, errdefs.ErrAlreadyExists)
	}
	spec := n.spec(sb)
	if has, there := sb.Status.AttachedNIC(n.Name); there && n.asks(has) {
		spec = has.Spec
	}
	_, err := s.svc.AttachNIC(ctx, sb.ID, spec, nil)
	return err
}

// asks tells whether a NIC that is there is what this one asks for, as far as it says.
func (n nic) asks(is vm.AttachedNIC) bool {
	for _, word := range []struct{ asked, has string }{
		{n.PortID, is.Spec.PortID}, {n.SubnetName, is.Spec.Subnet}, {n.vpc, is.Spec.VPC}, {n.Tag, is.Spec.Tag},
	} {
		if word.asked != "" && word.asked != word.has {
			return false
		}
	}
	return n.IPAddress == "" || hasIP(is, n.IPAddress)
}

// hasIP tells whether a NIC has an address, or will have it because it was asked for.
func hasIP(is vm.AttachedNIC, address string) bool {
	asked, err := vm.AddrOf(address)
	if err != nil {
		return false
	}
	if is.NIC != nil && slices.ContainsFunc(is.NIC.IPs, func(ip vm.NICAddress) bool { return ip.Prefix.Addr() == asked }) {
		return true
	}
	return slices.ContainsFunc(is.Spec.IPs, func(text string) bool {
		ip, err := vm.AddrOf(text)
		return err == nil && ip == asked
	})
}
