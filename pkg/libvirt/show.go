// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"

	"github.com/vmlet/vmlet/pkg/libvirt/domainxml"
	"github.com/vmlet/vmlet/pkg/vm"
)

// Domain implements lifecycle.Hypervisor.
func (h *Hypervisor) Domain(ctx context.Context, id string) (vm.Domain, error) {
	d, err := call(ctx, h.domains, "look at domain", id, func(s *session) (vm.Domain, error) {
		dom, err := h.find(s, id)
		if err != nil {
			return vm.Domain{}, err
		}
		defer free(dom)
		return stateOf(dom, domainxml.Mark{SandboxID: id, Owner: h.cfg.Owner})
	})
	if errdefs.IsNotFound(err) {
		return vm.Domain{SandboxID: id, State: vm.DomainAbsent}, nil
	}
	return d, err
}

// Domains implements lifecycle.Hypervisor.
func (h *Hypervisor) Domains(ctx context.Context) ([]vm.Domain, error) {
	return call(ctx, h.domains, "list domains", "", func(s *session) ([]vm.Domain, error) {
		var out []vm.Domain
		err := h.eachOwned(s, 0, func(dom *virt.Domain, mark domainxml.Mark) error {
			d, err := stateOf(dom, mark)
			if err == nil && d.State.Active() {
				d.AgentConnected, err = agentConnected(dom)
			}
			if err != nil {
				return err
			}
			out = append(out, d)
			return nil
		})
		return out, err
	})
}

// eachOwned calls do for each domain of ours. Domains that go away meanwhile are skipped.
func (h *Hypervisor) eachOwned(
	s *session, flags virt.ConnectListAllDomainsFlags, do func(*virt.Domain, domainxml.Mark) error,
) error {
	all, err := s.ListAllDomains(flags)
	if err != nil {
		return fmt.Errorf("list all domains: %w", err)
	}
	defer func() {
		for i := range all {
			free(&all[i])
		}
	}()
	for i := range all {
		mark, err := markOf(&all[i])
		switch {
		case err == nil && mark.Owner == h.cfg.Owner:
			err = do(&all[i], mark)
		case errdefs.IsFailedPrecondition(err):
			err = nil // someone else's
		}
		if err != nil && !isAbsent(err) {
			return err
		}
	}
	return nil
}

// stateOf reads the state of a domain, in its own words.
func stateOf(dom *virt.Domain, mark domainxml.Mark) (vm.Domain, error) {
	name, err := dom.GetName()
	if err != nil {
		return vm.Domain{}, fmt.Errorf("read the domain's name: %w", err)
	}
	state, reason, err := dom.GetState()
	if err != nil {
		return vm.Domain{}, fmt.Errorf("read the domain's state: %w", err)
	}
	return vm.Domain{
		SandboxID: mark.SandboxID, Owner: mark.Owner, Name: name,
		State: domainStates[state], Reason: reasonWord(state, reason),
	}, nil
}

// agentConnected tells whether the guest has the agent's port open, which libvirt says
// only in the XML of the active domain.
func agentConnected(dom *virt.Domain) (bool, error) {
	d, err := briefOf(dom, 0)
	if err != nil {
		return false, err
	}
	for _, c := range d.Channels {
		if c.Target.Name == domainxml.QGAPort && c.Target.State == "connected" {
			return true, nil
		}
	}
	return false, nil
}
