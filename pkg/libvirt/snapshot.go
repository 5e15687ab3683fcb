// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/libvirt/domainxml"
	"github.com/vmlet/vmlet/pkg/vm"
)

// Snapshot implements lifecycle.Hypervisor: an external snapshot that libvirt keeps no record of. Internal ones pause
// the guest for as long as its memory is written, refuse UEFI, and cannot be told apart from the disk.
func (h *Hypervisor) Snapshot(ctx context.Context, id string, what vm.Snapshotting) error {
	return h.withOn(ctx, h.layers, "take a snapshot", id, func(dom *virt.Domain) error {
		if err := requireActive(dom); err != nil {
			return err
		}
		devices, err := devicesOf(dom, 0)
		if err != nil {
			return err
		}
		text, err := snapshotXML(devices, what)
		if err != nil {
			return err
		}
		flags := virt.DOMAIN_SNAPSHOT_CREATE_NO_METADATA | virt.DOMAIN_SNAPSHOT_CREATE_REUSE_EXT
		if what.Memory == "" {
			flags |= virt.DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | virt.DOMAIN_SNAPSHOT_CREATE_ATOMIC
		} else if running, err := isRunning(dom); err != nil {
			return err
		} else if running {
			flags |= virt.DOMAIN_SNAPSHOT_CREATE_LIVE
		}
		snap, err := dom.CreateSnapshotXML(text, flags)
		for range what.Disks { // each may stand in the way
			if err == nil || !dropDuplicate(dom, err) {
				break
			}
			snap, err = dom.CreateSnapshotXML(text, flags)
		}
		if err != nil {
			return err
		}
		return snap.Free()
	})
}

// snapshotXML asks for new files for some disks, and for nothing of the others.
func snapshotXML(d *libvirtxml.DomainDeviceList, what vm.Snapshotting) (string, error) {
	out := libvirtxml.DomainSnapshot{
		Memory: &libvirtxml.DomainSnapshotMemory{Snapshot: "no"},
		Disks:  &libvirtxml.DomainSnapshotDisks{},
	}
	if what.Memory != "" {
		out.Memory = &libvirtxml.DomainSnapshotMemory{Snapshot: "external", File: what.Memory}
	}
	missing := slices.Clone(what.Disks)
	for _, disk := range d.Disks {
		i := slices.IndexFunc(missing, func(s vm.Switch) bool { return s.Disk == sourcePath(disk.Source) })
		if i < 0 {
			out.Disks.Disks = append(out.Disks.Disks, libvirtxml.DomainSnapshotDisk{Name: disk.Target.Dev, Snapshot: "no"})
			continue
		}
		next := missing[i].Next
		missing = slices.Delete(missing, i, i+1)
		out.Disks.Disks = append(out.Disks.Disks, libvirtxml.DomainSnapshotDisk{
			Name: disk.Target.Dev, Snapshot: "external",
			Driver: &libvirtxml.DomainDiskDriver{Type: string(vm.FormatQCOW2)},
			Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: next}},
		})
	}
	if len(missing) > 0 {
		return "", fmt.Errorf("no disk of the machine is %s: %w", missing[0].Disk, errdefs.ErrFailedPrecondition)
	}
	return out.Marshal()
}

// Saving implements lifecycle.Hypervisor.
func (h *Hypervisor) Saving(ctx context.Context, id string) (bool, error) {
	return call(ctx, h.domains, "look for a job", id, func(s *session) (bool, error) {
		dom, err := h.find(s, id)
		if err != nil {
			return false, err
		}
		defer free(dom)
		job, err := dom.GetJobInfo()
		if err != nil {
			return false, err
		}
		return job.Type != virt.DOMAIN_JOB_NONE, nil
	})
}

// DefineDisks implements lifecycle.Hypervisor.
func (h *Hypervisor) DefineDisks(ctx context.Context, id string, disks []vm.DiskFiles) error {
	return run(ctx, h.domains, "define the files of disks", id, func(s *session) error {
		d, err := h.definitionAtRest(s, id)
		if err != nil {
			return err
		}
		for i := range d.Devices.Disks {
			defined := &d.Devices.Disks[i]
			for _, files := range disks {
				if files.Target == "" && defined.Boot != nil || defined.Target != nil && defined.Target.Dev == files.Target {
					defined.Source, defined.BackingStore = domainxml.Files(files.Path, files.Backing)
				}
			}
		}
		for _, files := range disks {
			domainxml.GiveNVRAM(d, files.NVRAM)
		}
		return redefine(s, d)
	})
}

// StartFromMemory implements lifecycle.Hypervisor.
func (h *Hypervisor) StartFromMemory(ctx context.Context, id, memory string, nics []vm.NIC) (vm.Awoken, error) {
	return call(ctx, h.starts, "start domain from the memory of a snapshot", id, func(s *session) (has vm.Awoken, err error) {
		def, err := h.definitionAtRest(s, id)
		if err != nil {
			return has, err
		}
		text, err := s.DomainSaveImageGetXMLDesc(memory, virt.DOMAIN_SAVE_IMAGE_XML_SECURE)
		if err != nil {
			return has, err
		}
		var saved libvirtxml.Domain
		if err := saved.Unmarshal(text); err != nil {
			return has, fmt.Errorf("read the XML in %s: %w", memory, err)
		}
		if err := takeFiles(&saved, def); err != nil {
			return has, err
		}
		has = takeNICs(&saved, nics)
		if text, err = saved.Marshal(); err != nil {
			return has, err
		}
		if err := s.DomainRestoreFlags(memory, text, virt.DOMAIN_SAVE_PAUSED); err != nil || !has.Surplus {
			return has, err
		}
		dom, err := h.find(s, id)
		if err != nil {
			return has, err
		}
		defer free(dom)
		return has, unlinkSurplus(dom, nics)
	})
}

// definitionAtRest is the whole definition of an inactive domain. FailedPrecondition for an active one.
func (h *Hypervisor) definitionAtRest(s *session, id string) (*libvirtxml.Domain, error) {
	dom, err := h.find(s, id)
	if err != nil {
		return nil, err
	}
	defer free(dom)
	if err := refuseActive(dom); err != nil {
		return nil, err
	}
	return domainOf(dom, virt.DOMAIN_XML_INACTIVE|virt.DOMAIN_XML_SECURE)
}

// takeFiles gives a saved machine the files of the one that is defined. What the guest sees stays as it was saved: QEMU
// would not go on otherwise.
func takeFiles(saved, now *libvirtxml.Domain) error {
	if saved.UUID != now.UUID || saved.Name != now.Name || saved.Devices == nil {
		return fmt.Errorf("the memory is of domain %s (%s), not of %s: %w", saved.Name, saved.UUID, now.Name, errdefs.ErrFailedPrecondition)
	}
	for i := range saved.Devices.Disks {
		was := &saved.Devices.Disks[i]
		if was.Target == nil {
			continue
		}
		is := diskAt(now.Devices, was.Target.Dev)
		if is == nil {
			return fmt.Errorf("the memory is of a machine with a disk %s (%s), which it has not now: %w", was.Target.Dev, pathOf(was), errdefs.ErrFailedPrecondition)
		}
		was.Source, was.BackingStore = is.Source, is.BackingStore
	}
	for i := range min(len(saved.Devices.Serials), len(now.Devices.Serials)) {
		saved.Devices.Serials[i].Log = now.Devices.Serials[i].Log
	}
	for i := range min(len(saved.Devices.Consoles), len(now.Devices.Consoles)) {
		saved.Devices.Consoles[i].Log = now.Devices.Consoles[i].Log
	}
	for i := range saved.Devices.Channels {
		was := &saved.Devices.Channels[i]
		for _, is := range now.Devices.Channels {
			if was.Target != nil && is.Target != nil && was.Target.VirtIO != nil && is.Target.VirtIO != nil && was.Target.VirtIO.Name == is.Target.VirtIO.Name && is.Source != nil {
				was.Source = is.Source
			}
		}
	}
	// The loader stays: libvirt looks for one only when a machine boots, and QEMU has what it read of it in its memory.
	domainxml.GiveNVRAM(saved, domainxml.NVRAMOf(now))
	saved.Metadata = now.Metadata
	return nil
}

func isRunning(dom *virt.Domain) (bool, error) {
	state, _, err := dom.GetState()
	return domainStates[state] == vm.DomainRunning, err
}
