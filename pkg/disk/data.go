// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/vmlet/vmlet/pkg/vm"
)

// CreateData makes the empty disk of a sandbox at path, of size bytes, whole or not at all. A file that is there already is
// left alone: it has a guest's data. ResourceExhausted: there is no room.
func (d *Disks) CreateData(ctx context.Context, path string, size int64) error {
	err := d.create(ctx, path, file{
		mode: ownMode, uid: d.owner.uid, gid: d.owner.gid,
		fill: func(ctx context.Context, _ *os.File, part string) error {
			return qemuImg(ctx, "create", "-q", "-f", "qcow2", part, strconv.FormatInt(size, 10))
		},
	})
	if err != nil {
		return fmt.Errorf("create disk %s: %w", path, err)
	}
	return nil
}

// Inspect looks at a disk of ours, also while a QEMU has it open. NotFound if there is no file.
func (d *Disks) Inspect(ctx context.Context, path string, format vm.DiskFormat) (vm.DiskSource, error) {
	found, err := d.inspect(ctx, path, format)
	if err != nil {
		return vm.DiskSource{}, fmt.Errorf("look at disk %s: %w", path, err)
	}
	return found, nil
}

func (d *Disks) inspect(ctx context.Context, path string, format vm.DiskFormat) (_ vm.DiskSource, err error) {
	if err := context.Cause(ctx); err != nil {
		return vm.DiskSource{}, err
	}
	at, err := d.locate(path)
	if err != nil {
		return vm.DiskSource{}, err
	}
	f, err := d.openFile(at)
	if err != nil {
		return vm.DiskSource{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return vm.DiskSource{}, err
	}
	found := vm.DiskSource{Size: info.Size(), Allocated: int64(allocated(info))}
	if format == vm.FormatQCOW2 {
		head, err := readHeader(io.NewSectionReader(f, 0, qcow2HeaderSize))
		if err != nil {
			return vm.DiskSource{}, err
		}
		found.Size = head.size
	}
	return found, nil
}
