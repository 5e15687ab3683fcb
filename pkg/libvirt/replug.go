// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/libvirt/domainxml"
)

// errShareHeld is a guest that does not let go of the device of its share.
var errShareHeld = fmt.Errorf("the guest does not let go of its share: a process in it waits for an answer that the "+
	"virtiofsd which died will not give; only a reboot of the guest ends it: %w", errdefs.ErrFailedPrecondition)

// ReplugShare implements lifecycle.Hypervisor. QEMU 7.2 connects a virtiofs device to its
// virtiofsd once, so a new one needs a new device. The new virtiofsd is ours: libvirt 9.0
// dies of plugging one that it starts itself, where it has no cgroup controllers
// (qemuVirtioFSSetupCgroup), and plugs one that listens at a socket. virtiofsd ends by
// itself with the connection that it was started for.
func (h *Hypervisor) ReplugShare(ctx context.Context, id string) error {
	if h.cfg.ShareSocket == nil {
		return fmt.Errorf("plug the share of sandbox %s again: no place for a socket: %w", id, errdefs.ErrNotImplemented)
	}
	running, err := h.HelperPIDs(ctx, id)
	if err != nil || len(running) > 0 {
		return err
	}
	plan, err := call(ctx, h.starts, "unplug the share", id, func(s *session) (replug, error) {
		dom, err := h.find(s, id)
		if err != nil {
			return replug{}, err
		}
		defer free(dom)
		return unplugShare(dom)
	})
	if err != nil {
		return err
	}
	if err := h.plugShare(ctx, id, plan); err != nil {
		return fmt.Errorf("plug the share of sandbox %s again: %w", id, err)
	}
	h.shares.watch(id)
	return nil
}

// UnplugShare implements lifecycle.Hypervisor.
func (h *Hypervisor) UnplugShare(ctx context.Context, id string) error {
	err := h.withOn(ctx, h.starts, "unplug the share", id, func(dom *virt.Domain) error {
		if err := requireActive(dom); err != nil {
			return err
		}
		_, err := unplugShare(dom)
		return err
	})
	if errors.Is(err, errShareHeld) {
		return fmt.Errorf("unplug the share of sandbox %s: the guest does not let go of its device: %w", id, errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return err
	}
	// One that is just ending would be taken for one that serves.
	if err := h.awaitVirtiofsd(ctx, id); err != nil {
		return fmt.Errorf("unplug the share of sandbox %s: wait for the end of its virtiofsd: %w", id, err)
	}
	return nil
}

// awaitVirtiofsd returns when no virtiofsd of a sandbox is left.
func (h *Hypervisor) awaitVirtiofsd(ctx context.Context, id string) error {
	for {
		daemon, err := openVirtiofsd(h.cfg.ProcRoot, id)
		if errors.Is(err, errNotActive) {
			if pids, err := findVirtiofsd(h.cfg.ProcRoot, id); err != nil || len(pids) == 0 {
				return err
			}
			continue // it ended while we looked, and another one is left
		}
		if err != nil {
			return err
		}
		err = waitPIDFD(ctx, daemon)
		_ = daemon.Close() //nolint:errcheck // nothing was written
		if err != nil {
			return err
		}
	}
}

// unplugShare takes the device from the running guest, if it is there, and tells what it
// was. libvirt waits up to 5 s for the guest to let go, and then says nothing.
func unplugShare(dom *virt.Domain) (replug, error) {
	defined, _, err := shareOf(dom, virt.DOMAIN_XML_INACTIVE)
	if err != nil {
		return replug{}, err
	}
	if defined == nil || defined.Source == nil || defined.Source.Mount == nil {
		return replug{}, fmt.Errorf("the machine has no share: %w", errdefs.ErrFailedPrecondition)
	}
	plan := replug{source: defined.Source.Mount.Dir}
	live, _, err := shareOf(dom, 0)
	if err != nil || live == nil {
		return plan, err
	}
	if live.Binary != nil {
		plan.binary = live.Binary.Path
	}
	text, err := live.Marshal()
	if err != nil {
		return replug{}, err
	}
	detachErr := dom.DetachDeviceFlags(text, virt.DOMAIN_DEVICE_MODIFY_LIVE)
	if live, active, err := shareOf(dom, 0); err != nil || !active || live == nil {
		if err == nil && !active {
			err = errNotActive
		}
		return plan, err
	}
	return replug{}, errors.Join(errShareHeld, detachErr)
}

// shareOf finds the share among a domain's devices; nil if it has none.
func shareOf(dom *virt.Domain, flags virt.DomainXMLFlags) (_ *libvirtxml.DomainFilesystem, active bool, err error) {
	if active, err = dom.IsActive(); err != nil {
		return nil, false, err
	}
	devices, err := devicesOf(dom, flags)
	if err != nil {
		return nil, false, err
	}
	for _, f := range devices.Filesystems {
		if f.Target != nil && f.Target.Dir == domainxml.ShareTag {
			return &f, active, nil
		}
	}
	return nil, active, nil
}

// plugShare starts a virtiofsd and plugs the device that speaks to it.
func (h *Hypervisor) plugShare(ctx context.Context, id string, plan replug) error {
	socket := h.cfg.ShareSocket(id)
	daemon, err := h.startVirtiofsd(ctx, id, plan, socket)
	if err != nil {
		return err
	}
	text, err := domainxml.SharePlug(socket).Marshal()
	if err == nil {
		err = h.withOn(ctx, h.starts, "plug the share", id, func(dom *virt.Domain) error {
			return dom.AttachDeviceFlags(text, virt.DOMAIN_DEVICE_MODIFY_LIVE)
		})
	}
	if err != nil {
		err = errors.Join(err, daemon.end())
	}
	// QEMU has connected, or never will: nobody needs the name any more.
	return errors.Join(err, h.removeShareSocket(id))
}
