// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

// SetLinkState gives the guest the carrier of a NIC, or takes it as by pulling the cable, the pod's own NIC included. It
// stays so over boots. ref is as in vmOf, but no VM need run. NotFound if there is no NIC of the name.
func (s *Service) SetLinkState(ctx context.Context, ref, name string, up bool) (vm.NICView, error) {
	sandboxID, err := s.sandboxOf(ref)
	if err != nil {
		return vm.NICView{}, fmt.Errorf("set the link of a NIC: %w", err)
	}
	var view vm.NICView
	err = s.nicCall(ctx, "link", sandboxID, name, 0, func(ctx context.Context) error {
		sb, err := s.setLinkState(ctx, sandboxID, name, !up)
		view = s.nicView(sb, name)
		return err
	})
	if err != nil {
		return vm.NICView{}, err
	}
	return view, nil
}

func (s *Service) setLinkState(ctx context.Context, sandboxID, name string, down bool) (sb vm.Sandbox, err error) {
	unlock, err := s.locks.Lock(ctx, sandboxID)
	if err != nil {
		return sb, err
	}
	defer unlock()
	sb, runs, err := s.forNICs(ctx, sandboxID)
	if err != nil {
		return sb, err
	}
	nic, err := linkOf(sb, name)
	if err != nil {
		return sb, err
	}
	was := nic
	nic.Down = down
	rev := revert.New(ctx)
	defer rev.Fail(&err) //nolint:contextcheck // it has ctx since New
	rev.Add("NIC link", func(ctx context.Context) error {
		_, err := s.recordLink(sandboxID, was)
		if runs {
			err = errors.Join(err, s.plugLink(ctx, sandboxID, was))
		}
		return err
	})
	if sb, err = s.recordLink(sandboxID, nic); err != nil {
		return sb, err
	}
	if runs {
		if err := s.plugLink(ctx, sandboxID, nic); err != nil {
			return sb, err
		}
	}
	rev.Success()
	reason := "up"
	if down {
		reason = "down"
	}
	s.tell(vm.VMEvent{SandboxID: sandboxID, Kind: vm.NICLinkEvent, Subject: name, Reason: reason})
	return sb, nil
}

// plugLink has the running machine's device be as the record says. One that the guest has let go of has no link.
func (s *Service) plugLink(ctx context.Context, sandboxID string, nic vm.NIC) error {
	if err := s.deps.Hypervisor.SetLink(ctx, sandboxID, nic); !errors.Is(err, errdefs.ErrNotFound) {
		return err
	}
	return nil
}

// linkOf finds the NIC whose link is meant.
func linkOf(sb vm.Sandbox, name string) (vm.NIC, error) {
	for _, nic := range sb.NICs() {
		if nic.Name == name {
			return nic, nil
		}
	}
	if n, there := sb.Status.AttachedNIC(name); there {
		return vm.NIC{}, fmt.Errorf("it is %s: %w", n.State, errdefs.ErrFailedPrecondition)
	}
	return vm.NIC{}, fmt.Errorf("there is no NIC of the name: %w", errdefs.ErrNotFound)
}

// recordLink puts a NIC's link state on record. Records share memory with the store: what changes is copied.
func (s *Service) recordLink(sandboxID string, nic vm.NIC) (vm.Sandbox, error) {
	return s.updateSandbox(sandboxID, "NIC link", func(st vm.SandboxStatus) (vm.SandboxStatus, error) {
		st.NICsChanged = true
		if n, there := st.AttachedNIC(nic.Name); there {
			n.NIC = &nic
			return st.WithNIC(n), nil
		}
		network := *st.Network
		network.NICs = append([]vm.NIC(nil), network.NICs...)
		for i := range network.NICs {
			if network.NICs[i].Name == nic.Name {
				network.NICs[i] = nic
			}
		}
		st.Network = &network
		return st, nil
	})
}
