// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

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

// killDelay is how long a killed qemu-img may take to end.
const killDelay = 2 * time.Second

// overlay has qemu-img write a qcow2 file. The backing file is only named, not opened
// (-u): what it holds came from elsewhere, and qemu-img runs as root.
func overlay(ctx context.Context, path string, disk vm.Disk, size int64) error {
	cmd := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2",
		"-u", "-F", string(disk.BackingFormat), "-b", disk.Backing, path, strconv.FormatInt(size, 10))
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = killDelay
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
	case bytes.Contains(out, []byte("No space left on device")), bytes.Contains(out, []byte("Disk quota exceeded")):
		return fmt.Errorf("no room left for disks: %s: %w", said(out), errdefs.ErrResourceExhausted)
	default:
		return fmt.Errorf("qemu-img: %w: %s", err, said(out))
	}
}

// said is a program's message on one line.
func said(out []byte) string { return strings.Join(strings.Fields(string(out)), " ") }

// qcow2's magic, and where its header has the virtual size (QEMU's docs/interop/qcow2.txt).
const (
	qcow2Magic  = "QFI\xfb"
	qcow2SizeAt = 24
)

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
		var head [qcow2SizeAt + 8]byte
		if _, err := io.ReadFull(f, head[:]); err != nil || string(head[:len(qcow2Magic)]) != qcow2Magic {
			return 0, fmt.Errorf("%s is no qcow2 file: %w", path, errdefs.ErrFailedPrecondition)
		}
		return int64(binary.BigEndian.Uint64(head[qcow2SizeAt:])), nil
	default:
		return 0, fmt.Errorf("%s has the format %q: %w", path, format, errdefs.ErrInvalidArgument)
	}
}
