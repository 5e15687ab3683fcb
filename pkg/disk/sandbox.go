// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// rootPrefix and dataPrefix begin the names of disks; see paths.Node.
const (
	rootPrefix = "root"
	dataPrefix = "data-"
)

func isDisk(file string) bool {
	return strings.HasPrefix(file, rootPrefix) || strings.HasPrefix(file, dataPrefix)
}

// RemoveSandbox removes the folder of a sandbox with all in it. Idempotent.
func (d *Disks) RemoveSandbox(ctx context.Context, id string) error {
	if err := removeFolder(ctx, d.sandboxes, id); err != nil {
		return fmt.Errorf("remove the files of sandbox %q: %w", id, err)
	}
	return nil
}

// RemoveDisk removes the folder of a persistent disk with all in it. Idempotent.
func (d *Disks) RemoveDisk(ctx context.Context, diskID string) error {
	if err := removeFolder(ctx, d.disks, diskID); err != nil {
		return fmt.Errorf("remove the files of disk %q: %w", diskID, err)
	}
	return nil
}

func removeFolder(ctx context.Context, dir, id string) error {
	if !isName(id) {
		return fmt.Errorf("not a name: %w", errdefs.ErrInvalidArgument)
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	all, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	return errors.Join(all.RemoveAll(id), all.Close())
}

// List returns the IDs of all sandboxes that have a folder, in the order of the IDs.
func (d *Disks) List(ctx context.Context) ([]string, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(d.sandboxes)
	if err != nil {
		return nil, fmt.Errorf("list the sandboxes: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() && isName(e.Name()) {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// Usage is what the disks of a sandbox, root disks and those by size, take on their file system: blocks, not the
// sizes that guests see. A sandbox without any takes nothing. MountPoint is the folder of
// the sandboxes.
func (d *Disks) Usage(ctx context.Context, id string) (vm.FSUsage, error) {
	u, err := d.usage(ctx, d.sandboxes, id)
	if err != nil {
		return u, fmt.Errorf("disk usage of sandbox %q: %w", id, err)
	}
	return u, nil
}

// DiskUsage is Usage for a persistent disk. MountPoint is the folder of those.
func (d *Disks) DiskUsage(ctx context.Context, diskID string) (vm.FSUsage, error) {
	u, err := d.usage(ctx, d.disks, diskID)
	if err != nil {
		return u, fmt.Errorf("usage of disk %q: %w", diskID, err)
	}
	return u, nil
}

func (d *Disks) usage(ctx context.Context, dir, id string) (vm.FSUsage, error) {
	u := vm.FSUsage{At: time.Now(), MountPoint: dir}
	if !isName(id) {
		return u, fmt.Errorf("not a name: %w", errdefs.ErrInvalidArgument)
	}
	if err := context.Cause(ctx); err != nil {
		return u, err
	}
	folder, err := d.folder(dir, id, false)
	if errors.Is(err, fs.ErrNotExist) {
		return u, nil
	}
	if err != nil {
		return u, err
	}
	entries, err := fs.ReadDir(folder.FS(), ".")
	for _, e := range entries {
		if info, infoErr := e.Info(); infoErr == nil && info.Mode().IsRegular() && isDisk(e.Name()) {
			u.UsedInodes++
			u.UsedBytes += allocated(info)
		} // else it went while we looked
	}
	return u, errors.Join(err, folder.Close())
}

func allocated(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Blocks) * 512 // stat(2): always units of 512
	}
	return uint64(info.Size())
}
