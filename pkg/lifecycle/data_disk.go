// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// A data disk is on the record of its sandbox from before its file is made until after the last trace of it is gone. It is
// put into the domain's definition before it is plugged into the running machine, and taken out of it after it has been
// unplugged: the definition is what QEMU is made of when the guest powers off to reboot. Each container of the sandbox has
// a definition of its own, made of the records.

// dataDisk finds a data disk of a sandbox by its name.
func dataDisk(sb vm.Sandbox, name string) (vm.DataDisk, bool) {
	for _, d := range sb.Status.DataDisks {
		if d.Name == name {
			return d, true
		}
	}
	return vm.DataDisk{}, false
}

// recordDataDisk puts a data disk on record, in place of the one of its name.
func (s *Service) recordDataDisk(sandboxID, step string, d vm.DataDisk) (vm.Sandbox, error) {
	return s.updateSandbox(sandboxID, step, func(st vm.SandboxStatus) (vm.SandboxStatus, error) {
		st.DataDisks = slices.Clone(st.DataDisks)
		for i := range st.DataDisks {
			if st.DataDisks[i].Name == d.Name {
				st.DataDisks[i] = d
				return st, nil
			}
		}
		st.DataDisks = append(st.DataDisks, d)
		return st, nil
	})
}

// dropDataDisk takes a data disk off the record.
func (s *Service) dropDataDisk(sandboxID, step string, d vm.DataDisk) error {
	_, err := s.updateSandbox(sandboxID, step, func(st vm.SandboxStatus) (vm.SandboxStatus, error) {
		st.DataDisks = slices.DeleteFunc(slices.Clone(st.DataDisks), func(other vm.DataDisk) bool { return other.ID == d.ID })
		return st, nil
	})
	return err
}

// machineDisk is a data disk as a part of a machine.
func (s *Service) machineDisk(sb vm.Sandbox, d vm.DataDisk) vm.MachineDisk {
	policy := s.defaults.Load().ErrorPolicy
	if d.Spec.ReadOnly {
		policy = "report"
	}
	return vm.MachineDisk{
		Path: d.Path, Format: d.Spec.Format, Backing: layersFrom(sb.Status.DiskTree, d.Layer), Bus: d.Spec.Bus, ReadOnly: d.Spec.ReadOnly, ErrorPolicy: policy,
		Serial: d.Serial, Target: d.Target, Block: d.Block, Foreign: !d.Own(),
	}
}

// machineDisks are the data disks that a machine which is made now has.
func (s *Service) machineDisks(sb vm.Sandbox) []vm.MachineDisk {
	var disks []vm.MachineDisk
	for _, d := range sb.Status.DataDisks {
		if d.State == vm.DataDiskAttached {
			disks = append(disks, s.machineDisk(sb, d))
		}
	}
	return disks
}

// claimSource looks at a caller's file, and puts it on record with the disk as long as nobody else has it. Two VMs may
// read one file; who writes to it has it alone.
func (s *Service) claimSource(ctx context.Context, sandboxID, step string, d vm.DataDisk) (vm.DataDisk, error) {
	found, err := s.deps.Disks.Source(ctx, d.Spec.Path, d.Spec.Format, d.Spec.ReadOnly)
	if err != nil {
		return d, err
	}
	before := d
	d.Path, d.Identity, d.Block, d.Size = d.Spec.Path, found.Identity, found.Block, found.Size
	s.claims.Lock()
	defer s.claims.Unlock()
	for _, sb := range s.deps.Store.Sandboxes.All() {
		if sb.Status.Stopped() {
			continue
		}
		for _, other := range sb.Status.DataDisks {
			if other.ID != d.ID && other.Identity == d.Identity && (!other.Spec.ReadOnly || !d.Spec.ReadOnly) {
				return d, fmt.Errorf("%s is disk %q of sandbox %s (pod %s/%s) already; a file or device is shared only where all read it alone: %w",
					d.Path, other.Name, sb.ID, sb.Spec.Namespace, sb.Spec.Name, errdefs.ErrFailedPrecondition)
			}
		}
	}
	if d == before {
		return d, nil
	}
	_, err = s.recordDataDisk(sandboxID, step, d)
	return d, err
}

// readyDataDisks sees that the data disks of a machine which is to be made are there, and as big as they are to be.
func (s *Service) readyDataDisks(ctx context.Context, sb vm.Sandbox) (vm.Sandbox, error) {
	for _, d := range sb.Status.DataDisks {
		if d.State != vm.DataDiskAttached {
			continue
		}
		var err error
		if d.Own() {
			err = s.deps.Disks.GrowRoot(ctx, vm.Disk{Path: d.Path, Size: d.Size})
		} else {
			_, err = s.claimSource(ctx, sb.ID, "data disk looked at", d)
		}
		if err != nil {
			// Not NotFound: who makes a container would take that for its image.
			return sb, fmt.Errorf("data disk %q, which can be detached: %s: %w", d.Name, err, errdefs.ErrFailedPrecondition) //nolint:errorlint // as said
		}
	}
	return s.deps.Store.Sandboxes.Get(sb.ID)
}

// plugDataDisk makes the file of a data disk and puts it into the domain there is, if there is one.
func (s *Service) plugDataDisk(ctx context.Context, sandboxID string, d vm.DataDisk) error {
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil {
		return err
	}
	if d.Own() {
		if err := s.merges.interrupt(ctx, sandboxID); err != nil { // of layers that it was kept with
			return err
		}
		if err := s.deps.Disks.CreateData(ctx, d.Path, d.Size); err != nil {
			return err
		}
		if err := s.handOverLayers(ctx, sb.Status.DiskTree, d.Layer); err != nil {
			return err
		}
	}
	return withoutDomain(s.deps.Hypervisor.AttachDisk(ctx, sandboxID, s.machineDisk(sb, d)))
}

// withoutDomain takes the want of a domain for success: the next one is made of the records.
func withoutDomain(err error) error {
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	return err
}

// liveDisks are the disks of the machine that runs, by target; nil if none does.
func (s *Service) liveDisks(ctx context.Context, sandboxID string) (map[string]vm.LiveDisk, error) {
	d, err := s.deps.Hypervisor.Domain(ctx, sandboxID)
	if err != nil || !d.State.Active() {
		return nil, err
	}
	list, err := s.deps.Hypervisor.LiveDisks(ctx, sandboxID)
	if err != nil {
		return nil, err
	}
	live := make(map[string]vm.LiveDisk, len(list))
	for _, disk := range list {
		live[disk.Target] = disk
	}
	return live, nil
}
