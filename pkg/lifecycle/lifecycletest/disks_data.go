// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// AddSource puts a caller's file or device at a path, or another one in its place.
func (d *Disks) AddSource(path string, found vm.DiskSource) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sources == nil {
		d.sources = map[string]vm.DiskSource{}
	}
	d.sources[path] = found
}

// CreateData implements lifecycle.Disks.
func (d *Disks) CreateData(ctx context.Context, path string, size int64) error {
	if err := d.enter(ctx, "CreateData", path); err != nil {
		return err
	}
	return d.create(path, DiskFile{Disk: &vm.Disk{Path: path, Size: size}})
}

// Inspect implements lifecycle.Disks. Every file takes a MiB.
func (d *Disks) Inspect(ctx context.Context, path string, _ vm.DiskFormat) (vm.DiskSource, error) {
	if err := d.enter(ctx, "Inspect", path); err != nil {
		return vm.DiskSource{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.checkPath(path); err != nil {
		return vm.DiskSource{}, err
	}
	f, there := d.files[path]
	if !there {
		return vm.DiskSource{}, fmt.Errorf("look at disk %s: %w", path, errdefs.ErrNotFound)
	}
	found := vm.DiskSource{Size: int64(len(f.Seed)), Allocated: vm.MiB}
	if f.Disk != nil {
		found.Size = f.Disk.Size
	}
	return found, nil
}

// Source implements lifecycle.Disks, for what AddSource has put there.
func (d *Disks) Source(ctx context.Context, path string, _ vm.DiskFormat, _ bool) (vm.DiskSource, error) {
	if err := d.enter(ctx, "Source", path); err != nil {
		return vm.DiskSource{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	found, there := d.sources[path]
	if !there {
		return vm.DiskSource{}, fmt.Errorf("disk at %s: %w", path, errdefs.ErrNotFound)
	}
	return found, nil
}

// sizeOf is what a guest sees of a disk.
func (d *Disks) sizeOf(path string) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.files[path]; f.Disk != nil {
		return f.Disk.Size
	}
	return d.sources[path].Size
}

// resize gives a disk another size, as QEMU does.
func (d *Disks) resize(path string, size int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.files[path]; f.Disk != nil {
		grown := *f.Disk
		grown.Size = size
		f.Disk = &grown
		d.files[path] = f
		return
	}
	if found, is := d.sources[path]; is {
		found.Size = size
		d.sources[path] = found
	}
}
