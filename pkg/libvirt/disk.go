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
	"github.com/vmlet/vmlet/pkg/vm"
)

// AttachDisk implements lifecycle.Hypervisor. The definition comes first, since it can be taken back without a guest.
func (h *Hypervisor) AttachDisk(ctx context.Context, id string, disk vm.MachineDisk) error {
	device, err := domainxml.Disk(disk)
	if err != nil {
		return fmt.Errorf("attach a disk to sandbox %s: %w", id, err)
	}
	return h.withOn(ctx, h.starts, "attach a disk", id, func(dom *virt.Domain) error {
		if err := plugDisk(dom, device, virt.DOMAIN_XML_INACTIVE, virt.DOMAIN_DEVICE_MODIFY_CONFIG); err != nil {
			return err
		}
		active, err := dom.IsActive()
		if err != nil || !active {
			return err
		}
		if err := plugLiveDisk(dom, device); err != nil {
			return errors.Join(err, forgetDisk(dom, disk.Target))
		}
		return nil
	})
}

// plugLiveDisk adds a disk to the machine: once more where an earlier try that libvirtd died in stood in its way.
func plugLiveDisk(dom *virt.Domain, disk *libvirtxml.DomainDisk) error {
	err := plugDisk(dom, disk, 0, virt.DOMAIN_DEVICE_MODIFY_LIVE)
	if err == nil || errors.Is(err, errdefs.ErrAlreadyExists) || errors.Is(err, errdefs.ErrResourceExhausted) {
		return err
	}
	found, strayErr := dropStrayDisk(dom, pathOf(disk))
	if strayErr != nil {
		return fmt.Errorf("%s: %w", plainText(err), strayErr)
	}
	if !found {
		return err
	}
	return plugDisk(dom, disk, 0, virt.DOMAIN_DEVICE_MODIFY_LIVE)
}

// plugDisk adds a disk to the machine, or to the definition, if it is not there.
func plugDisk(dom *virt.Domain, disk *libvirtxml.DomainDisk, look virt.DomainXMLFlags, where virt.DomainDeviceModifyFlags) error {
	d, err := devicesOf(dom, look)
	if err != nil {
		return err
	}
	if there := diskAt(d, disk.Target.Dev); there != nil {
		if pathOf(there) == pathOf(disk) {
			return nil
		}
		return fmt.Errorf("the machine has %s at %s: %w", pathOf(there), disk.Target.Dev, errdefs.ErrAlreadyExists)
	}
	if disk.Target.Bus == vm.BusSCSI && !hasSCSI(d) {
		controller := domainxml.SCSIController()
		if err := plug(dom, &controller, where); err != nil {
			return fmt.Errorf("its controller: %w", err)
		}
	}
	return plug(dom, disk, where)
}

// UnplugDisk implements lifecycle.Hypervisor. libvirt would wait for some seconds if it were asked by the device itself.
func (h *Hypervisor) UnplugDisk(ctx context.Context, id, target string) error {
	return h.with(ctx, "unplug a disk", id, func(dom *virt.Domain) error {
		if err := requireActive(dom); err != nil {
			return err
		}
		d, err := devicesOf(dom, 0)
		if err != nil {
			return err
		}
		disk := diskAt(d, target)
		if disk == nil || disk.Alias == nil {
			return nil
		}
		job, err := dom.GetBlockJobInfo(target, 0)
		if err != nil {
			return err
		}
		if job.Type != virt.DOMAIN_BLOCK_JOB_TYPE_UNKNOWN {
			return fmt.Errorf("layers under it are being merged, try again when that is done: %w", errdefs.ErrUnavailable)
		}
		return letGo(dom, disk.Alias.Name)
	})
}

// ForgetDisk implements lifecycle.Hypervisor.
func (h *Hypervisor) ForgetDisk(ctx context.Context, id, target string) error {
	return h.with(ctx, "forget a disk", id, func(dom *virt.Domain) error { return forgetDisk(dom, target) })
}

// forgetDisk takes a disk out of the definition. Its controller stays there.
func forgetDisk(dom *virt.Domain, target string) error {
	d, err := devicesOf(dom, virt.DOMAIN_XML_INACTIVE)
	if err != nil {
		return err
	}
	disk := diskAt(d, target)
	if disk == nil {
		return nil
	}
	text, err := disk.Marshal()
	if err != nil {
		return err
	}
	return dom.DetachDeviceFlags(text, virt.DOMAIN_DEVICE_MODIFY_CONFIG)
}

// ResizeDisk implements lifecycle.Hypervisor.
func (h *Hypervisor) ResizeDisk(ctx context.Context, id, target string, size int64) error {
	return h.with(ctx, "resize a disk", id, func(dom *virt.Domain) error {
		if err := requireActive(dom); err != nil {
			return err
		}
		return dom.BlockResize(target, uint64(size), virt.DOMAIN_BLOCK_RESIZE_BYTES)
	})
}

// LiveDisks implements lifecycle.Hypervisor.
func (h *Hypervisor) LiveDisks(ctx context.Context, id string) ([]vm.LiveDisk, error) {
	return call(ctx, h.domains, "look at the disks", id, func(s *session) ([]vm.LiveDisk, error) {
		dom, err := h.find(s, id)
		if err != nil {
			return nil, err
		}
		defer free(dom)
		if err := requireActive(dom); err != nil {
			return nil, err
		}
		d, err := devicesOf(dom, 0)
		if err != nil {
			return nil, err
		}
		var out []vm.LiveDisk
		for i := range d.Disks {
			target := d.Disks[i].Target.Dev
			info, err := dom.GetBlockInfo(target, 0)
			if err != nil {
				return nil, fmt.Errorf("ask for the size of %s: %w", target, err)
			}
			out = append(out, vm.LiveDisk{Target: target, Path: pathOf(&d.Disks[i]), Size: int64(info.Capacity)})
		}
		return out, nil
	})
}

func diskAt(d *libvirtxml.DomainDeviceList, target string) *libvirtxml.DomainDisk {
	for i := range d.Disks {
		if t := d.Disks[i].Target; t != nil && t.Dev == target {
			return &d.Disks[i]
		}
	}
	return nil
}

func hasSCSI(d *libvirtxml.DomainDeviceList) bool {
	for _, c := range d.Controllers {
		if c.Type == "scsi" {
			return true
		}
	}
	return false
}

func pathOf(disk *libvirtxml.DomainDisk) string { return sourcePath(disk.Source) }

// sourcePath is the file or block device of a disk, or of what is below one; "" for what is neither.
func sourcePath(s *libvirtxml.DomainDiskSource) string {
	switch {
	case s == nil:
		return ""
	case s.File != nil:
		return s.File.File
	case s.Block != nil:
		return s.Block.Dev
	}
	return ""
}
