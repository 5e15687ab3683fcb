// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// sector is what sizes of disks are multiples of, in bytes.
const sector = 512

// GrowRoot gives a root disk, or any other of ours, that no VM uses at least disk.Size bytes, rounded up to whole
// sectors; one that has as many is left alone. NotFound: there is no file.
// FailedPrecondition: it is not ours to grow any more, or a QEMU has it open.
func (d *Disks) GrowRoot(ctx context.Context, disk vm.Disk) error {
	if err := d.grow(ctx, disk); err != nil {
		return fmt.Errorf("grow disk %s: %w", disk.Path, err)
	}
	return nil
}

func (d *Disks) grow(ctx context.Context, disk vm.Disk) error {
	at, err := d.locate(disk.Path)
	if err != nil {
		return err
	}
	unlock, err := d.locks.Lock(ctx, disk.Path)
	if err != nil {
		return err
	}
	defer unlock()
	head, err := d.header(at)
	if err != nil {
		return err
	}
	if head.size >= disk.Size {
		return nil
	}
	if head.features&qcow2DataFile != 0 {
		return fmt.Errorf("its data is in another file, as we never make it: %w", errdefs.ErrFailedPrecondition)
	}
	image, err := aloneImage(disk.Path)
	if err != nil {
		return err
	}
	size := (disk.Size + sector - 1) / sector * sector
	return qemuImg(ctx, "resize", "-q", image, strconv.FormatInt(size, 10))
}

// header reads the header of a disk.
func (d *Disks) header(at place) (qcow2Header, error) {
	f, err := d.openFile(at)
	if err != nil {
		return qcow2Header{}, err
	}
	head, err := readHeader(f)
	return head, errors.Join(err, f.Close())
}

// openFile opens a file of ours to read. NotFound if it is not there.
func (d *Disks) openFile(at place) (*os.File, error) {
	folder, err := d.folder(at.dir, at.id, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = folder.Close() }() //nolint:errcheck // nothing was written through it
	exists, err := isThere(folder, at.file)
	if err != nil {
		return nil, err
	}
	if !exists {
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, errdefs.ErrNotFound)
	}
	return folder.OpenFile(at.file, os.O_RDONLY, 0)
}

// aloneImage names a qcow2 file for qemu-img, which is not to open what the file says it is
// backed by: the header is a guest's QEMU's to write, and qemu-img runs as root.
func aloneImage(path string) (string, error) {
	options, err := json.Marshal(map[string]any{
		"driver": "qcow2", "backing": nil,
		"file": map[string]any{"driver": "file", "filename": filepath.Clean(path)},
	})
	return "json:" + string(options), err
}
