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

// rootPrefix begins the names of root disks; see paths.Node.RootDisk.
const rootPrefix = "root-"

// RemoveSandbox removes the folder of a sandbox with all in it. Idempotent.
func (d *Disks) RemoveSandbox(ctx context.Context, id string) error {
	if !isName(id) {
		return fmt.Errorf("remove the files of sandbox %q: not a name: %w", id, errdefs.ErrInvalidArgument)
	}
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("remove the files of sandbox %s: %w", id, err)
	}
	all, err := os.OpenRoot(d.dir)
	if err == nil {
		err = errors.Join(all.RemoveAll(id), all.Close())
	}
	if err != nil {
		return fmt.Errorf("remove the files of sandbox %s: %w", id, err)
	}
	return nil
}

// List returns the IDs of all sandboxes that have a folder, in the order of the IDs.
func (d *Disks) List(ctx context.Context) ([]string, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(d.dir)
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

// Usage is what the root disks of a sandbox take on their file system: blocks, not the
// sizes that guests see. A sandbox without any takes nothing. MountPoint is the folder of
// the sandboxes.
func (d *Disks) Usage(ctx context.Context, id string) (vm.FSUsage, error) {
	u := vm.FSUsage{At: time.Now(), MountPoint: d.dir}
	if !isName(id) {
		return u, fmt.Errorf("disk usage of sandbox %q: not a name: %w", id, errdefs.ErrInvalidArgument)
	}
	if err := context.Cause(ctx); err != nil {
		return u, fmt.Errorf("disk usage of sandbox %s: %w", id, err)
	}
	folder, err := d.folder(id, false)
	if errors.Is(err, fs.ErrNotExist) {
		return u, nil
	}
	if err != nil {
		return u, fmt.Errorf("disk usage of sandbox %s: %w", id, err)
	}
	entries, err := fs.ReadDir(folder.FS(), ".")
	for _, e := range entries {
		if info, infoErr := e.Info(); infoErr == nil && info.Mode().IsRegular() && strings.HasPrefix(e.Name(), rootPrefix) {
			u.UsedInodes++
			u.UsedBytes += allocated(info)
		} // else it went while we looked
	}
	if err = errors.Join(err, folder.Close()); err != nil {
		return u, fmt.Errorf("disk usage of sandbox %s: %w", id, err)
	}
	return u, nil
}

func allocated(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Blocks) * 512 // stat(2): always units of 512
	}
	return uint64(info.Size())
}
