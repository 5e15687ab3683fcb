// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/vm"
)

// VMDisks lists the disks of a VM: the root disk and the seed of its last container, then the data disks in the order in
// which they were attached. It answers from the records and the files, without libvirt and the guest. ref is as in vmOf,
// but no VM has to run.
func (s *Service) VMDisks(ctx context.Context, ref string) ([]vm.VMDisk, error) {
	sandboxID, err := s.sandboxOf(ref)
	if err != nil {
		return nil, fmt.Errorf("list the disks of a VM: %w", err)
	}
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil {
		return nil, fmt.Errorf("list the disks of sandbox %s: %w", sandboxID, err)
	}
	disks, err := s.bootDisks(ctx, sb)
	if err != nil {
		return nil, fmt.Errorf("list the disks of sandbox %s: %w", sandboxID, err)
	}
	for _, d := range sb.Status.DataDisks {
		out := vm.VMDisk{
			Name: d.Name, State: d.State, Bus: d.Spec.Bus, Target: d.Target, Serial: d.Serial, ReadOnly: d.Spec.ReadOnly,
			Own: d.Own(), Size: d.Size, Layers: []vm.DiskLayer{{Path: d.Path, Format: d.Spec.Format}},
		}
		s.lookAt(ctx, &out)
		out.Layers = append(out.Layers, s.lookBelow(ctx, layersFrom(sb.Status.DiskTree, d.Layer))...)
		disks = append(disks, out)
	}
	return disks, nil
}

// bootDisks are the root disk and the seed, none before the first container.
func (s *Service) bootDisks(ctx context.Context, sb vm.Sandbox) ([]vm.VMDisk, error) {
	root, _, err := s.presentRoot(sb)
	if err != nil {
		return nil, nil //nolint:nilerr // there is none
	}
	ask, err := annotations.Parse(sb.Spec.AllSettings())
	if err != nil {
		return nil, err
	}
	bus := s.defaults.Load().DiskBus
	if ask.DiskBus != "" {
		bus = ask.DiskBus
	}
	first := vm.DataTarget(bus, -2)
	disks := []vm.VMDisk{{
		Name: vm.RootDiskName, Root: true, State: vm.DataDiskAttached, Bus: bus, Target: first, Serial: vm.RootDiskName, Own: true,
		Size: root.Size, Layers: []vm.DiskLayer{{Path: root.Path, Format: vm.FormatQCOW2}},
	}, {
		Name: vm.SeedDiskName, Seed: true, State: vm.DataDiskAttached, Bus: bus, Target: vm.DataTarget(bus, -1), Serial: vm.SeedDiskName, Own: true,
		ReadOnly: true, Layers: []vm.DiskLayer{{Path: s.cfg.Paths.Seed(sb.ID), Format: vm.FormatRaw}},
	}}
	for i := range disks {
		s.lookAt(ctx, &disks[i])
	}
	disks[0].Layers = append(disks[0].Layers, s.layersBelow(ctx, sb, root)...)
	return disks, nil
}

// layersBelow are the files under a root disk, nearest first: layers of snapshots, and the image.
func (s *Service) layersBelow(ctx context.Context, sb vm.Sandbox, root vm.Disk) []vm.DiskLayer {
	image := vm.DiskLayer{Path: root.Backing, Format: root.BackingFormat, Shared: true}
	if found, err := s.deps.Images.Resolve(ctx, root.ImageID); err == nil {
		image.Allocated = found.Size
	}
	return append(s.lookBelow(ctx, layersFrom(s.treeWith(sb, root), root.Layer)), image)
}

// lookBelow completes layers by what they take on the host.
func (s *Service) lookBelow(ctx context.Context, files []vm.BackingFile) (layers []vm.DiskLayer) {
	for _, file := range files {
		layer := vm.DiskLayer{Path: file.Path, Format: file.Format}
		if usage, err := s.deps.Disks.FileUsage(ctx, file.Path); err == nil {
			layer.Allocated = int64(usage.UsedBytes)
		}
		layers = append(layers, layer)
	}
	return layers
}

// lookAt completes a disk by what its file says. One that cannot be looked at is told with the reason: who asks wants to
// see it above all.
func (s *Service) lookAt(ctx context.Context, d *vm.VMDisk) {
	layer := &d.Layers[0]
	look := s.deps.Disks.Inspect
	if !d.Own {
		look = func(ctx context.Context, path string, format vm.DiskFormat) (vm.DiskSource, error) {
			return s.deps.Disks.Source(ctx, path, format, d.ReadOnly)
		}
	}
	found, err := look(ctx, layer.Path, layer.Format)
	switch {
	case errdefs.IsNotFound(err):
		d.Problem = "its file is gone"
	case err != nil:
		d.Problem = err.Error()
	default:
		d.Size, d.Allocated, layer.Allocated = found.Size, found.Allocated, found.Allocated
	}
}
