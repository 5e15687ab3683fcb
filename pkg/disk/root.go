// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// CreateRoot makes the overlay d.Path on d.Backing, of d.Size bytes or of as many as the
// backing disk has if that is more, whole or not at all. A file that is there already is
// left alone: it has a guest's data. NotFound: the backing file is gone.
// FailedPrecondition: it is not of its format. ResourceExhausted: there is no room.
func (d *Disks) CreateRoot(ctx context.Context, disk vm.Disk) error {
	err := d.create(ctx, disk.Path, file{
		mode: ownMode, uid: d.owner.uid, gid: d.owner.gid,
		fill: func(ctx context.Context, _ *os.File, path string) error {
			least, err := virtualSize(disk.Backing, disk.BackingFormat)
			if err != nil {
				return fmt.Errorf("backing file: %w", err)
			}
			return overlay(ctx, path, disk, max(disk.Size, least))
		},
	})
	if err != nil {
		return fmt.Errorf("create root disk %s: %w", disk.Path, err)
	}
	return nil
}

// overlay has qemu-img write a qcow2 file. The backing file is only named, not opened
// (-u): what it holds came from elsewhere, and qemu-img runs as root.
func overlay(ctx context.Context, path string, disk vm.Disk, size int64) error {
	return qemuImg(ctx, "create", "-q", "-f", "qcow2",
		"-u", "-F", string(disk.BackingFormat), "-b", disk.Backing, path, strconv.FormatInt(size, 10))
}

// virtualSize is the size in bytes that a guest sees of a disk.
func virtualSize(path string, format vm.DiskFormat) (size int64, err error) {
	if !filepath.IsAbs(path) {
		return 0, fmt.Errorf("%q is not a whole path: %w", path, errdefs.ErrInvalidArgument)
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
	}
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	switch format {
	case vm.FormatRaw:
		info, err := f.Stat()
		if err != nil {
			return 0, err
		}
		return info.Size(), nil
	case vm.FormatQCOW2:
		head, err := readHeader(f)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", path, err)
		}
		return head.size, nil
	default:
		return 0, fmt.Errorf("%s has the format %q: %w", path, format, errdefs.ErrInvalidArgument)
	}
}
