// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/paths"
	"github.com/vmlet/vmlet/pkg/vm"
)

var _ lifecycle.Disks = (*Disks)(nil)

// Disks is a lifecycle.Disks in memory. The folder of a sandbox or of a persistent disk is
// the last but one element of a path, as in paths.Node. Failures and delays are scripted by Script; calls are listed
// with the path or the sandbox ID.
type Disks struct {
	Script

	mu     sync.Mutex
	within []string
	files  map[string]DiskFile
	lost   map[string]bool
	// sources are the callers' own.
	sources map[string]vm.DiskSource
	// merging are the files that a PullFile is at: nobody else may open them.
	merging map[string]bool
	// checkpoints are the folders of callers, by path.
	checkpoints map[string]*fakeCheckpoint
	now         func() time.Time
}

// DiskFile is one file that a fake holds. Disk or Seed says what it is; a console spool has
// neither.
type DiskFile struct {
	Disk *vm.Disk
	Seed []byte
	// Written is set when a guest has written to it; see Write.
	Written bool
	// data is what was Put. memory is the sandbox whose guest's memory it is.
	data   map[string]string
	memory string
	// nvram is what the firmware kept of the machine that the memory is of.
	nvram map[string]string
	// nics and targets are the NICs and disks of the machine that the memory is of. adopted: it has become another one's.
	nics    map[string]vm.NIC
	targets []string
	adopted bool
}

// NewDisks returns a fake without files.
func NewDisks() *Disks {
	return &Disks{files: map[string]DiskFile{}, lost: map[string]bool{}, now: time.Now}
}

// Confine makes the fake refuse paths that are not in the folder of a sandbox or a disk of
// node.
// Without it any folder will do.
func (d *Disks) Confine(node paths.Node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.within = []string{node.Sandboxes(), node.Disks()}
}

// LoseBacking makes CreateRoot fail on a base image, as if its file were gone.
func (d *Disks) LoseBacking(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lost[path] = true
}

// Write stands for a guest that writes to a file of its.
func (d *Disks) Write(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[path]
	f.Written = true
	d.files[path] = f
}

// File returns the file at a path, for assertions.
func (d *Disks) File(path string) (DiskFile, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, ok := d.files[path]
	return f, ok
}

// Files lists the paths of all files, sorted.
func (d *Disks) Files() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.files))
}

// CreateRoot implements lifecycle.Disks.
func (d *Disks) CreateRoot(ctx context.Context, disk vm.Disk) error {
	if err := d.enter(ctx, "CreateRoot", disk.Path); err != nil {
		return err
	}
	d.mu.Lock()
	lost := d.lost[disk.Backing]
	d.mu.Unlock()
	if lost {
		return fmt.Errorf("create root disk %s: backing file %s: %w", disk.Path, disk.Backing, errdefs.ErrNotFound)
	}
	return d.create(disk.Path, DiskFile{Disk: &disk})
}

// GrowRoot implements lifecycle.Disks.
func (d *Disks) GrowRoot(ctx context.Context, disk vm.Disk) error {
	if err := d.enter(ctx, "GrowRoot", disk.Path); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.checkPath(disk.Path); err != nil {
		return err
	}
	if err := d.busy(disk.Path); err != nil {
		return err
	}
	f, there := d.files[disk.Path]
	if !there || f.Disk == nil {
		return fmt.Errorf("grow root disk %s: %w", disk.Path, errdefs.ErrNotFound)
	}
	grown := *f.Disk
	grown.Size = max(grown.Size, disk.Size)
	f.Disk = &grown
	d.files[disk.Path] = f
	return nil
}

// WriteSeed implements lifecycle.Disks.
func (d *Disks) WriteSeed(ctx context.Context, path string, iso []byte) error {
	if err := d.enter(ctx, "WriteSeed", path); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.checkPath(path); err != nil {
		return err
	}
	d.files[path] = DiskFile{Seed: bytes.Clone(iso)}
	return nil
}

// CreateSpool implements lifecycle.Disks.
func (d *Disks) CreateSpool(ctx context.Context, path string) error {
	if err := d.enter(ctx, "CreateSpool", path); err != nil {
		return err
	}
	return d.create(path, DiskFile{})
}

// RemoveFile implements lifecycle.Disks.
func (d *Disks) RemoveFile(ctx context.Context, path string) error {
	if err := d.enter(ctx, "RemoveFile", path); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.checkPath(path); err != nil {
		return err
	}
	if err := d.busy(path); err != nil {
		return err
	}
	delete(d.files, path)
	return nil
}

// RemoveSandbox implements lifecycle.Disks.
func (d *Disks) RemoveSandbox(ctx context.Context, id string) error {
	return d.removeFolder(ctx, "RemoveSandbox", id, false)
}

// RemoveDisk implements lifecycle.Disks.
func (d *Disks) RemoveDisk(ctx context.Context, diskID string) error {
	return d.removeFolder(ctx, "RemoveDisk", diskID, true)
}

func (d *Disks) removeFolder(ctx context.Context, method, id string, persistent bool) error {
	if err := d.enter(ctx, method, id); err != nil {
		return err
	}
	if err := checkFolder(id); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for path := range d.files {
		if err := d.busy(path); err != nil && folderOf(path) == id && isPersistent(path) == persistent {
			return err
		}
	}
	maps.DeleteFunc(d.files, func(path string, _ DiskFile) bool { return folderOf(path) == id && isPersistent(path) == persistent })
	return nil
}

// List implements lifecycle.Disks.
func (d *Disks) List(ctx context.Context) ([]string, error) {
	if err := d.enter(ctx, "List"); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	ids := map[string]bool{}
	for path := range d.files {
		if !isPersistent(path) {
			ids[folderOf(path)] = true
		}
	}
	return slices.Sorted(maps.Keys(ids)), nil
}

// Usage implements lifecycle.Disks. Every root disk takes a MiB.
func (d *Disks) Usage(ctx context.Context, id string) (vm.FSUsage, error) {
	return d.usage(ctx, "Usage", id, false)
}

// DiskUsage implements lifecycle.Disks.
func (d *Disks) DiskUsage(ctx context.Context, diskID string) (vm.FSUsage, error) {
	return d.usage(ctx, "DiskUsage", diskID, true)
}

func (d *Disks) usage(ctx context.Context, method, id string, persistent bool) (vm.FSUsage, error) {
	if err := d.enter(ctx, method, id); err != nil {
		return vm.FSUsage{}, err
	}
	if err := checkFolder(id); err != nil {
		return vm.FSUsage{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	u := vm.FSUsage{At: d.now(), MountPoint: "/sandboxes"}
	for path, f := range d.files {
		if folderOf(path) == id && isPersistent(path) == persistent && f.Disk != nil {
			u.UsedBytes += uint64(vm.MiB)
			u.UsedInodes++
		}
	}
	return u, nil
}

func (d *Disks) create(path string, f DiskFile) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.checkPath(path); err != nil {
		return err
	}
	if _, exists := d.files[path]; !exists {
		d.files[path] = f
	}
	return nil
}

func (d *Disks) checkPath(path string) error {
	clean := filepath.IsAbs(path) && filepath.Clean(path) == path && isFileName(filepath.Base(path)) && isFileName(folderOf(path))
	if !clean || d.within != nil && !slices.Contains(d.within, filepath.Dir(filepath.Dir(path))) {
		return fmt.Errorf("path %q is not a file of a sandbox: %w", path, errdefs.ErrInvalidArgument)
	}
	return nil
}

func checkFolder(id string) error {
	if !isFileName(id) {
		return fmt.Errorf("sandbox or disk %q: not a name: %w", id, errdefs.ErrInvalidArgument)
	}
	return nil
}

func isFileName(s string) bool {
	return s != "" && s[0] != '.' && !strings.ContainsAny(s, "/\x00")
}

func folderOf(path string) string { return filepath.Base(filepath.Dir(path)) }

// isPersistent tells persistent disks from what belongs to a sandbox.
func isPersistent(path string) bool {
	return filepath.Base(filepath.Dir(filepath.Dir(path))) == filepath.Base(paths.Node{}.Disks())
}
