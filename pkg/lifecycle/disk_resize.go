// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

// growTimeout bounds the growth of a file system in the guest.
const growTimeout = 2 * time.Minute

// sizedDisk is a disk that may be resized, and how its size is put on record.
type sizedDisk struct {
	path   string
	format vm.DiskFormat
	serial string
	size   int64 // on record
	// own: the file is ours.
	own, block, readOnly bool
	// record is called with growing before the disk is given that size, and without it after.
	record func(size int64, growing bool) error
}

// ResizeDisk gives a disk of a VM, the root disk too, size bytes, rounded up to whole sectors; a guest that runs sees it at
// once. Disks never shrink: InvalidArgument, with both sizes. With grow, vmlet-agent is asked to let the file system on it
// take the new space, also where the disk has that size already; what came of it is in the answer, and no error. ref is as
// in vmOf, but no VM has to run for a disk whose file is ours.
//
// A block device has the size that it has: size is that or 0, and QEMU and the guest are told of it.
func (s *Service) ResizeDisk(ctx context.Context, ref, name string, size int64, grow bool) (vm.DiskResized, error) {
	if size < 0 || size > vm.MaxDataDisk {
		return vm.DiskResized{}, fmt.Errorf("resize disk %q: size of %d bytes: it must be from 1 to %d: %w", name, size, vm.MaxDataDisk, errdefs.ErrInvalidArgument)
	}
	sandboxID, err := s.sandboxOf(ref)
	if err != nil {
		return vm.DiskResized{}, fmt.Errorf("resize disk %q: %w", name, err)
	}
	size = (size + vm.SectorSize - 1) / vm.SectorSize * vm.SectorSize
	var did vm.DiskResized
	var serial string
	err = s.shareErr(ctx, fmt.Sprintf("resize disk %s of sandbox %s: %s", name, sandboxID, newID()), func(ctx context.Context) error {
		return s.observed("disk_resize", func() error {
			unlock, err := s.locks.Lock(ctx, sandboxID)
			if err != nil {
				return err
			}
			defer unlock()
			did, serial, err = s.resizeDisk(ctx, sandboxID, name, size)
			return err
		})
	})
	if err != nil {
		return vm.DiskResized{}, fmt.Errorf("resize disk %q of sandbox %s: %w", name, sandboxID, err)
	}
	if grow {
		s.growFileSystem(ctx, sandboxID, serial, &did)
	}
	return did, nil
}

// resizeDisk does the work of ResizeDisk on the host, under the sandbox's lock. The new size is on record first: what is
// left to do of it is done by who looks next.
func (s *Service) resizeDisk(ctx context.Context, sandboxID, name string, size int64) (did vm.DiskResized, serial string, err error) {
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil {
		return did, "", err
	}
	if sb.Status.State != vm.SandboxReady {
		return did, "", fmt.Errorf("the sandbox is %s, not ready: %w", sb.Status.State, errdefs.ErrFailedPrecondition)
	}
	if err := s.betweenSnapshots(sb); err != nil {
		return did, "", err
	}
	d, err := s.sizedDisk(sb, name)
	if err != nil {
		return did, "", err
	}
	live, err := s.liveDisks(ctx, sandboxID)
	if err != nil {
		return did, "", err
	}
	now, target, err := s.presentSize(ctx, d, live)
	if err != nil {
		return did, "", err
	}
	if size, err = s.newSize(ctx, d, now, size); err != nil {
		return did, "", err
	}
	did = vm.DiskResized{Before: now, Size: size}
	if size == now {
		return did, d.serial, nil
	}
	rev := revert.New(ctx)
	defer rev.Fail(&err) //nolint:contextcheck // it has ctx since New
	rev.Add("disk size", func(context.Context) error { return d.record(d.size, false) })
	if err := d.record(max(size, d.size), true); err != nil {
		return did, "", err
	}
	if target != "" {
		err = s.deps.Hypervisor.ResizeDisk(ctx, sandboxID, target, size)
	} else if err = s.merges.interrupt(ctx, sandboxID); err == nil {
		err = s.deps.Disks.GrowRoot(ctx, vm.Disk{Path: d.path, Size: size})
	}
	if err != nil {
		return did, "", err
	}
	rev.Success()
	s.tell(vm.VMEvent{SandboxID: sandboxID, Kind: vm.DiskResizedEvent, Subject: name})
	return did, d.serial, d.record(max(size, d.size), false)
}

// presentSize is what a guest sees of a disk now, and libvirt's name for it in the machine that runs, "" if none has it.
func (s *Service) presentSize(ctx context.Context, d sizedDisk, live map[string]vm.LiveDisk) (size int64, target string, err error) {
	for _, disk := range live {
		if disk.Path == d.path {
			return disk.Size, disk.Target, nil
		}
	}
	if !d.own {
		return 0, "", fmt.Errorf("no VM that runs has it, and its file is its owner's: grow it yourself (qemu-img resize), the next machine sees it: %w", errdefs.ErrFailedPrecondition)
	}
	found, err := s.deps.Disks.Inspect(ctx, d.path, d.format)
	return found.Size, "", err
}

// newSize judges the size that was asked for.
func (s *Service) newSize(ctx context.Context, d sizedDisk, now, size int64) (int64, error) {
	if d.block {
		found, err := s.deps.Disks.Source(ctx, d.path, d.format, d.readOnly)
		if err != nil {
			return 0, err
		}
		if size != 0 && size != found.Size {
			return 0, fmt.Errorf("it is a block device of %d bytes, and cannot have %d; grow the device first: %w", found.Size, size, errdefs.ErrInvalidArgument)
		}
		size = found.Size
	}
	switch {
	case size == 0:
		return 0, fmt.Errorf("size: must be given for what is no block device: %w", errdefs.ErrInvalidArgument)
	case size < now:
		return 0, fmt.Errorf("it has %d bytes, and disks do not shrink to %d: %w", now, size, errdefs.ErrInvalidArgument)
	case d.readOnly && !d.block && size > now:
		return 0, fmt.Errorf("it is attached read-only: %w", errdefs.ErrFailedPrecondition)
	}
	return size, nil
}

// sizedDisk finds a disk by its name.
func (s *Service) sizedDisk(sb vm.Sandbox, name string) (sizedDisk, error) {
	switch name {
	case vm.SeedDiskName:
		return sizedDisk{}, fmt.Errorf("it is what cloud-init reads, and as big as that: %w", errdefs.ErrFailedPrecondition)
	case vm.RootDiskName:
		return s.sizedRoot(sb)
	}
	d, known := dataDisk(sb, name)
	if !known {
		return sizedDisk{}, fmt.Errorf("it has no such disk; list them: vmletctl disk ls POD: %w", errdefs.ErrNotFound)
	}
	if d.State != vm.DataDiskAttached && d.State != vm.DataDiskDetached {
		return sizedDisk{}, fmt.Errorf("it is %s: %w", d.State, errdefs.ErrFailedPrecondition)
	}
	return sizedDisk{
		path: d.Path, format: d.Spec.Format, serial: d.Serial, size: d.Size, own: d.Own(), block: d.Block, readOnly: d.Spec.ReadOnly,
		record: func(size int64, growing bool) error {
			if d.Size == size && !growing {
				return nil // whoever looks sees by the machine whether it has that size
			}
			d.Size = size
			_, err := s.recordDataDisk(sb.ID, "data disk resized", d)
			return err
		},
	}, nil
}

// sizedRoot finds the root disk of the sandbox's present container.
func (s *Service) sizedRoot(sb vm.Sandbox) (sizedDisk, error) {
	root, persistent, err := s.presentRoot(sb)
	if err != nil {
		return sizedDisk{}, err
	}
	return sizedDisk{
		path: root.Path, format: vm.FormatQCOW2, serial: vm.RootDiskName, size: root.Size, own: true,
		record: func(size int64, growing bool) error {
			root.Size, root.Growing = size, growing
			return s.recordRoot(sb.ID, persistent, root)
		},
	}, nil
}

// recordRoot puts a root disk's size on record: with the sandbox, or under the name of a persistent disk.
func (s *Service) recordRoot(sandboxID, persistent string, root vm.Disk) error {
	if persistent != "" {
		_, err := s.deps.Store.Disks.Update(persistent, "persistent disk resized", func(p vm.PersistentDisk) (vm.PersistentDisk, error) {
			p.Disk.Size, p.Disk.Growing = root.Size, root.Growing
			return p, nil
		})
		return err
	}
	_, err := s.updateSandbox(sandboxID, "root disk resized", func(st vm.SandboxStatus) (vm.SandboxStatus, error) {
		st.Disks = slices.Clone(st.Disks)
		for i := range st.Disks {
			if st.Disks[i].Path == root.Path {
				st.Disks[i].Size, st.Disks[i].Growing = root.Size, root.Growing
			}
		}
		return st, nil
	})
	return err
}

// settleRoots goes on with a resize of a root disk that was cut short. Under the sandbox's lock.
func (s *Service) settleRoots(ctx context.Context, sb vm.Sandbox) error {
	names := map[string]string{}
	for _, d := range s.heldBy(sb) {
		names[d.Disk.Path] = d.Key.Name()
	}
	for _, root := range s.SandboxDisks(sb) {
		if !root.Growing {
			continue
		}
		live, err := s.liveDisks(ctx, sb.ID)
		if err != nil {
			return err
		}
		if err := s.finishGrowth(ctx, sb.ID, root, live); err != nil {
			return fmt.Errorf("root disk %s: finish its resize: %w", root.Path, err)
		}
		root.Growing = false
		if err := s.recordRoot(sb.ID, names[root.Path], root); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) finishGrowth(ctx context.Context, sandboxID string, root vm.Disk, live map[string]vm.LiveDisk) error {
	for _, disk := range live {
		if disk.Path != root.Path {
			continue
		}
		if disk.Size >= root.Size {
			return nil
		}
		return s.deps.Hypervisor.ResizeDisk(ctx, sandboxID, disk.Target, root.Size)
	}
	if err := s.merges.interrupt(ctx, sandboxID); err != nil {
		return err
	}
	return s.deps.Disks.GrowRoot(ctx, root)
}

// presentRoot is the root disk of the sandbox's last container, and its name if it is a persistent one.
func (s *Service) presentRoot(sb vm.Sandbox) (root vm.Disk, persistent string, err error) {
	all := s.containersOf(sb.ID)
	if len(all) == 0 {
		return root, "", fmt.Errorf("no container was created yet, and so no root disk: %w", errdefs.ErrFailedPrecondition)
	}
	c := all[len(all)-1]
	if live, ok := s.liveContainer(sb.ID); ok {
		c = live
	}
	for _, d := range s.heldBy(sb) {
		if d.Disk.Container == c.Spec.Name && d.Disk.ImageID == c.Spec.ImageID {
			return d.Disk, d.Key.Name(), nil
		}
	}
	for _, d := range sb.Status.Disks {
		if d.Container == c.Spec.Name && d.ImageID == c.Spec.ImageID && (d.ContainerID == "" || d.ContainerID == c.ID) {
			return d, "", nil
		}
	}
	return root, "", fmt.Errorf("the root disk of container %s is gone: %w", c.ID, errdefs.ErrFailedPrecondition)
}

// growFileSystem asks the guest, without the lock. What it cannot do is no error: the disk has grown.
func (s *Service) growFileSystem(ctx context.Context, sandboxID, serial string, did *vm.DiskResized) {
	ctx, cancel := context.WithTimeout(ctx, growTimeout)
	defer cancel()
	c, ok := s.liveContainer(sandboxID)
	switch {
	case !ok || !c.Status.Runs():
		did.FileSystem, did.Detail = vm.GrowthSkipped, "no guest runs"
		return
	case c.Status.Paused:
		did.FileSystem, did.Detail = vm.GrowthSkipped, "the VM is paused"
		return
	}
	got, err := s.deps.Guest.GrowFileSystem(ctx, sandboxID, serial, did.Size)
	switch {
	case errdefs.IsNotImplemented(err):
		did.FileSystem, did.Detail = vm.GrowthSkipped, err.Error()
	case err != nil:
		log.From(ctx).Warn("the file system on a disk has not grown", zap.String("sandbox", sandboxID), zap.String("disk", serial), zap.Error(err))
		did.FileSystem, did.Detail = vm.GrowthFailed, err.Error()
	default:
		did.FileSystem, did.Detail = got.Outcome, got.Detail
	}
}
