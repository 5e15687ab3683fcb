// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"fmt"
	"maps"

	"github.com/vmlet/vmlet/pkg/vm"
)

// CopyFile implements lifecycle.Disks: with what was Put into the file itself.
func (d *Disks) CopyFile(ctx context.Context, from, to string) error {
	if err := d.enter(ctx, "CopyFile", from); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, path := range []string{from, to} {
		if err := d.checkPath(path); err != nil {
			return err
		}
		if err := d.busy(path); err != nil {
			return err
		}
	}
	f, there := d.files[from]
	if !there {
		delete(d.files, to)
		return nil
	}
	d.files[to] = DiskFile{data: maps.Clone(f.data), Written: f.Written}
	return nil
}

// SameFiles implements lifecycle.Disks.
func (d *Disks) SameFiles(ctx context.Context, a, b string) (bool, error) {
	if err := d.enter(ctx, "SameFiles", a); err != nil {
		return false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, path := range []string{a, b} {
		if err := d.checkPath(path); err != nil {
			return false, fmt.Errorf("compare files: %w", err)
		}
	}
	one, isOne := d.files[a]
	other, isOther := d.files[b]
	return isOne == isOther && one.Written == other.Written && maps.Equal(one.data, other.data), nil
}

// FetchNVRAM implements lifecycle.Disks.
func (d *Disks) FetchNVRAM(ctx context.Context, dir string, file vm.CheckpointFile, path string) error {
	if err := d.enter(ctx, "FetchNVRAM", path); err != nil {
		return err
	}
	return d.fetch(dir, file, path, func(f DiskFile) (DiskFile, error) { return f, nil })
}

// replaceData has a file hold what another one does, as of its name.
func (d *Disks) replaceData(path string, data map[string]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[path]
	f.data = maps.Clone(data)
	d.files[path] = f
}
