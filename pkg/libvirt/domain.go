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

// Define implements lifecycle.Hypervisor.
func (h *Hypervisor) Define(ctx context.Context, m vm.Machine) error {
	const operation = "define domain"
	if !isID(m.SandboxID) || m.Owner != h.cfg.Owner ||
		m.UUID != vm.UUIDFromID(m.SandboxID) || m.Name != vm.DomainName(m.SandboxID) {
		return fmt.Errorf("%s of sandbox %s: owner, UUID and name do not go with it: %w",
			operation, m.SandboxID, errdefs.ErrInvalidArgument)
	}
	def, err := domainxml.Domain(m)
	if err != nil {
		return fmt.Errorf("%s: %w", operation, err)
	}
	text, err := def.Marshal()
	if err != nil {
		return fmt.Errorf("%s: write its XML: %w", operation, err)
	}
	return run(ctx, h.domains, operation, m.SandboxID, func(s *session) error {
		if err := h.mayDefine(s, m.SandboxID); err != nil {
			return err
		}
		dom, err := s.DomainDefineXML(text)
		if err != nil {
			return err
		}
		free(dom)
		h.events.owned.set(m.UUID, presence{defined: true})
		return nil
	})
}

// mayDefine refuses where a definition would change an active or a foreign domain.
func (h *Hypervisor) mayDefine(s *session, id string) error {
	dom, err := h.find(s, id)
	if isAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer free(dom)
	return refuseActive(dom)
}

// Start implements lifecycle.Hypervisor.
func (h *Hypervisor) Start(ctx context.Context, id string) error {
	err := h.withOn(ctx, h.starts, "start domain", id, func(dom *virt.Domain) error {
		// A start is a boot: a state that someone saved by managedsave has taps and disks
		// of a time before.
		return dom.CreateWithFlags(virt.DOMAIN_START_PAUSED | virt.DOMAIN_START_FORCE_BOOT)
	})
	if err == nil {
		h.shares.watch(id)
	}
	return err
}

// Resume implements lifecycle.Hypervisor.
func (h *Hypervisor) Resume(ctx context.Context, id string) error {
	return h.with(ctx, "resume domain", id, func(dom *virt.Domain) error {
		state, _, err := dom.GetState()
		if err != nil {
			return err
		}
		switch domainStates[state] {
		case vm.DomainRunning:
			return nil
		case vm.DomainPaused:
			return dom.Resume()
		default:
			return errNotActive
		}
	})
}

// Pause implements lifecycle.Hypervisor.
func (h *Hypervisor) Pause(ctx context.Context, id string) error {
	return h.with(ctx, "pause domain", id, func(dom *virt.Domain) error {
		state, _, err := dom.GetState()
		if err != nil {
			return err
		}
		switch domainStates[state] {
		case vm.DomainPaused:
			return nil
		case vm.DomainRunning:
			return dom.Suspend()
		default:
			return errNotActive
		}
	})
}

// Reset implements lifecycle.Hypervisor.
func (h *Hypervisor) Reset(ctx context.Context, id string) error {
	return h.withOn(ctx, h.buttons, "reset domain", id, func(dom *virt.Domain) error {
		state, _, err := dom.GetState()
		if err != nil {
			return err
		}
		// libvirt would reset a paused one too, which nobody would see before it is resumed.
		if domainStates[state] != vm.DomainRunning {
			return errNotRunning
		}
		return dom.Reset(0)
	})
}

// PowerButton implements lifecycle.Hypervisor.
func (h *Hypervisor) PowerButton(ctx context.Context, id string) error {
	return h.withOn(ctx, h.buttons, "press power button", id, func(dom *virt.Domain) error {
		return dom.ShutdownFlags(virt.DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
	})
}

// PID implements lifecycle.Hypervisor. libvirt does not tell, so the process is found by
// its arguments.
func (h *Hypervisor) PID(ctx context.Context, id string) (int, error) {
	err := h.with(ctx, "find process", id, requireActive)
	if err != nil {
		return 0, err
	}
	return findQEMU(h.cfg.ProcRoot, id)
}

// with runs one call on a sandbox's domain that must exist and be ours.
func (h *Hypervisor) with(ctx context.Context, operation, id string, do func(*virt.Domain) error) error {
	return h.withOn(ctx, h.domains, operation, id, do)
}

func (h *Hypervisor) withOn(
	ctx context.Context, c *conn, operation, id string, do func(*virt.Domain) error,
) error {
	return run(ctx, c, operation, id, func(s *session) error {
		dom, err := h.find(s, id)
		if err != nil {
			return err
		}
		defer free(dom)
		return do(dom)
	})
}

func requireActive(dom *virt.Domain) error {
	active, err := dom.IsActive()
	if err == nil && !active {
		return errNotActive
	}
	return err
}

func refuseActive(dom *virt.Domain) error {
	active, err := dom.IsActive()
	if err == nil && active {
		return errActive
	}
	return err
}
