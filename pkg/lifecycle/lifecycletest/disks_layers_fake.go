// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"fmt"
	"maps"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Put stands for a guest that writes to a disk, Get for one that reads: what the file does not have is looked for in the
// files below it. It is "" where none has it.
func (d *Disks) Put(path, key, value string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[path]
	f.data = maps.Clone(f.data)
	if f.data == nil {
		f.data = map[string]string{}
	}
	f.data[key] = value
	d.files[path] = f
}

// Get is Put's other half.
func (d *Disks) Get(path, key string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		f, ok := d.files[path]
		if v, here := f.data[key]; here || !ok || f.Disk == nil {
			return v
		}
		path = f.Disk.Backing
	}
}

// HandOver implements lifecycle.Disks.
func (d *Disks) HandOver(ctx context.Context, path string) error {
	return d.layer(ctx, "HandOver", path, func(DiskFile) error { return nil })
}

// PullFile implements lifecycle.Disks. Nothing else can be done with the file meanwhile: qemu-img has it locked.
func (d *Disks) PullFile(ctx context.Context, path string, base vm.BackingFile) error {
	d.setMerging(path, true)
	defer d.setMerging(path, false)
	return d.layer(ctx, "PullFile", path, func(DiskFile) error { return d.pull(path, base.Path) })
}

func (d *Disks) setMerging(path string, is bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.merging == nil {
		d.merging = map[string]bool{}
	}
	d.merging[path] = is
}

// busy refuses a file that is being merged. The mutex is held.
func (d *Disks) busy(path string) error {
	if d.merging[path] {
		return fmt.Errorf("%s: qemu-img writes to it: %w", path, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// SetBase implements lifecycle.Disks.
func (d *Disks) SetBase(ctx context.Context, path string, base vm.BackingFile) error {
	return d.layer(ctx, "SetBase", path, func(DiskFile) error { d.rebase(path, base.Path); return nil })
}

// FileUsage implements lifecycle.Disks: every file takes a MiB.
func (d *Disks) FileUsage(ctx context.Context, path string) (vm.FSUsage, error) {
	if err := d.enter(ctx, "FileUsage", path); err != nil {
		return vm.FSUsage{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.checkPath(path); err != nil {
		return vm.FSUsage{}, err
	}
	if _, there := d.files[path]; !there {
		return vm.FSUsage{}, nil
	}
	return vm.FSUsage{UsedBytes: uint64(vm.MiB), UsedInodes: 1}, nil
}

// layer does something to a file that must be there.
func (d *Disks) layer(ctx context.Context, method, path string, do func(DiskFile) error) error {
	if err := d.enter(ctx, method, path); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.checkPath(path); err != nil {
		return err
	}
	f, there := d.files[path]
	if !there {
		return fmt.Errorf("%s %s: %w", method, path, errdefs.ErrNotFound)
	}
	return do(f)
}

// pull copies what is between a file and base into the file. The mutex is held.
func (d *Disks) pull(path, base string) error {
	all := maps.Clone(d.files[path].data)
	if all == nil {
		all = map[string]string{}
	}
	for below := d.files[path].Disk.Backing; below != base; {
		f, there := d.files[below]
		if !there || f.Disk == nil {
			return fmt.Errorf("%s is not below %s: %w", base, path, errdefs.ErrFailedPrecondition)
		}
		for k, v := range f.data {
			if _, has := all[k]; !has {
				all[k] = v
			}
		}
		below = f.Disk.Backing
	}
	f := d.files[path]
	f.data = all
	d.files[path] = f
	d.rebase(path, base)
	return nil
}

// rebase sets a file on another one. The mutex is held.
func (d *Disks) rebase(path, base string) {
	f := d.files[path]
	disk := *f.Disk
	disk.Backing = base
	f.Disk = &disk
	d.files[path] = f
}

// commit copies what a file has into another one. The mutex is held.
func (d *Disks) commit(from, into string) {
	to := d.files[into]
	to.data = maps.Clone(to.data)
	if to.data == nil {
		to.data = map[string]string{}
	}
	maps.Copy(to.data, d.files[from].data)
	d.files[into] = to
}
