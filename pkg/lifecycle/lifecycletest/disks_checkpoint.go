// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Checkpoints is the folder that a fake's checkpoints may be below.
const Checkpoints = "/checkpoints"

// fakeCheckpoint is a folder of a checkpoint.
type fakeCheckpoint struct {
	files map[string]DiskFile
	// manifest is nil until it has one.
	manifest *vm.Checkpoint
	// staged: it is not at its place yet.
	staged bool
}

// MakeFolder makes an empty folder for a checkpoint.
func (d *Disks) MakeFolder(dir string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.folder(dir)
}

// SpoilCheckpoint changes a file of a checkpoint.
func (d *Disks) SpoilCheckpoint(dir, name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.folder(dir).files[name]
	f.Written = true
	d.checkpoints[dir].files[name] = f
}

// ChangeManifest changes what a checkpoint says of itself.
func (d *Disks) ChangeManifest(dir string, change func(*vm.Checkpoint)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := *d.checkpoints[dir].manifest
	change(&c)
	d.checkpoints[dir].manifest = &c
}

// CheckpointsIn lists the folders with something in them, "DIR (begun)" for those without a manifest.
func (d *Disks) CheckpointsIn() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for _, dir := range slices.Sorted(maps.Keys(d.checkpoints)) {
		switch c := d.checkpoints[dir]; {
		case c.manifest != nil && !c.staged:
			out = append(out, dir)
		case len(c.files) > 0 || c.staged:
			out = append(out, dir+" (begun)")
		}
	}
	return out
}

// SaveMemory makes a file with the memory of a sandbox's guest.
func (d *Disks) SaveMemory(path, id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files[path] = DiskFile{memory: id}
}

// folder is the folder at dir, made if there is none. The mutex is held.
func (d *Disks) folder(dir string) *fakeCheckpoint {
	if d.checkpoints == nil {
		d.checkpoints = map[string]*fakeCheckpoint{}
	}
	if d.checkpoints[dir] == nil {
		d.checkpoints[dir] = &fakeCheckpoint{files: map[string]DiskFile{}}
	}
	return d.checkpoints[dir]
}

// PlanCheckpoint implements lifecycle.Disks.
func (d *Disks) PlanCheckpoint(ctx context.Context, dir string) (where vm.CheckpointFolder, err error) {
	if err := d.enter(ctx, "PlanCheckpoint", dir); err != nil {
		return where, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir {
		return where, fmt.Errorf("checkpoint in %q: %w", dir, errdefs.ErrInvalidArgument)
	}
	if !strings.HasPrefix(dir, Checkpoints+"/") {
		return where, fmt.Errorf("checkpoint in %s: not below %s: %w", dir, Checkpoints, errdefs.ErrFailedPrecondition)
	}
	found := d.checkpoints[dir]
	if found != nil && !found.staged && len(found.files) > 0 {
		return where, fmt.Errorf("checkpoint in %s: it is not empty: %w", dir, errdefs.ErrAlreadyExists)
	}
	return vm.CheckpointFolder{Dir: dir, Root: Checkpoints, Made: found == nil || found.staged}, nil
}

// WriteCheckpoint implements lifecycle.Disks. Every file has as many bytes, and a checksum that tells whether it was written
// to.
func (d *Disks) WriteCheckpoint(ctx context.Context, where vm.CheckpointFolder, name, from string, told func(vm.Progress)) (vm.CheckpointFile, error) {
	told(vm.Progress{Done: vm.MiB / 2, Total: vm.MiB})
	if err := d.enter(ctx, "WriteCheckpoint", name); err != nil {
		return vm.CheckpointFile{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	f, there := d.files[from]
	if !there {
		return vm.CheckpointFile{}, fmt.Errorf("write %s: %s: %w", name, from, errdefs.ErrNotFound)
	}
	folder := d.folder(where.Dir)
	folder.staged = where.Made
	folder.files[name] = DiskFile{Disk: f.Disk, data: maps.Clone(f.data), memory: f.memory, targets: f.targets, nvram: maps.Clone(f.nvram), Written: f.Written}
	told(vm.Progress{Done: vm.MiB, Total: vm.MiB})
	return fileOf(name, folder.files[name]), nil
}

func fileOf(name string, f DiskFile) vm.CheckpointFile {
	return vm.CheckpointFile{Name: name, Size: vm.MiB, SHA256: fmt.Sprintf("%t", f.Written)}
}

// EndCheckpoint implements lifecycle.Disks.
func (d *Disks) EndCheckpoint(ctx context.Context, where vm.CheckpointFolder, c vm.Checkpoint) error {
	if err := d.enter(ctx, "EndCheckpoint", where.Dir); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	folder := d.folder(where.Dir)
	folder.manifest, folder.staged = &c, false
	folder.files[vm.CheckpointManifest] = DiskFile{}
	return nil
}

// RemoveCheckpoint implements lifecycle.Disks.
func (d *Disks) RemoveCheckpoint(ctx context.Context, where vm.CheckpointFolder, id string) error {
	if err := d.enter(ctx, "RemoveCheckpoint", where.Dir); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	folder := d.checkpoints[where.Dir]
	if folder == nil || folder.manifest != nil && folder.manifest.ID != id {
		return nil
	}
	if where.Made {
		delete(d.checkpoints, where.Dir)
		return nil
	}
	folder.manifest, folder.files = nil, map[string]DiskFile{}
	return nil
}

// ReadCheckpoint implements lifecycle.Disks.
func (d *Disks) ReadCheckpoint(ctx context.Context, dir string) (vm.Checkpoint, error) {
	if err := d.enter(ctx, "ReadCheckpoint", dir); err != nil {
		return vm.Checkpoint{}, err
	}
	if !strings.HasPrefix(dir, Checkpoints+"/") {
		return vm.Checkpoint{}, fmt.Errorf("checkpoint in %s: not below %s: %w", dir, Checkpoints, errdefs.ErrFailedPrecondition)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	folder := d.checkpoints[dir]
	if folder == nil || folder.manifest == nil || folder.staged {
		return vm.Checkpoint{}, fmt.Errorf("checkpoint in %s: %w", dir, errdefs.ErrNotFound)
	}
	for _, name := range folder.manifest.Names() {
		if _, err := folder.manifest.File(name); err != nil {
			return vm.Checkpoint{}, err
		}
	}
	return *folder.manifest, nil
}

// FetchDisk implements lifecycle.Disks.
func (d *Disks) FetchDisk(ctx context.Context, dir string, file vm.CheckpointFile, path string) error {
	if err := d.enter(ctx, "FetchDisk", path); err != nil {
		return err
	}
	return d.fetch(dir, file, path, func(f DiskFile) (DiskFile, error) {
		if f.Disk.Backing != "" {
			return f, fmt.Errorf("take %s of the checkpoint in %s: it has a backing file: %w", file.Name, dir, errdefs.ErrFailedPrecondition)
		}
		disk := *f.Disk
		disk.Path = path
		f.Disk = &disk
		return f, nil
	})
}

// FetchMemory implements lifecycle.Disks: what is saved with memory is the ID of its sandbox. What goes on from it has the NICs
// of the one that it becomes.
func (d *Disks) FetchMemory(ctx context.Context, dir string, file vm.CheckpointFile, path string, adopt func(string) (string, error)) error {
	if err := d.enter(ctx, "FetchMemory", path); err != nil {
		return err
	}
	return d.fetch(dir, file, path, func(f DiskFile) (_ DiskFile, err error) {
		f.memory, err = adopt(f.memory)
		f.nics, f.adopted = nil, true
		return f, err
	})
}

func (d *Disks) fetch(dir string, file vm.CheckpointFile, path string, change func(DiskFile) (DiskFile, error)) error {
	d.mu.Lock()
	f, there := d.folder(dir).files[file.Name]
	d.mu.Unlock()
	if !there {
		return fmt.Errorf("take %s of the checkpoint in %s: %w", file.Name, dir, errdefs.ErrNotFound)
	}
	if fileOf(file.Name, f) != file {
		return fmt.Errorf("take %s of the checkpoint in %s: %w", file.Name, dir, errdefs.ErrDataLoss)
	}
	f, err := change(f)
	if err != nil {
		return err
	}
	return d.create(path, f)
}
