// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/vmlet/vmlet/pkg/vm"
)

// HandOver gives a file to QEMU's user. NotFound: there is none.
func (d *Disks) HandOver(ctx context.Context, path string) error {
	if err := d.handOver(ctx, path); err != nil {
		return fmt.Errorf("hand over %s: %w", path, err)
	}
	return nil
}

func (d *Disks) handOver(ctx context.Context, path string) (err error) {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	f, err := d.openPath(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Chown(d.owner.uid, d.owner.gid); err != nil {
		return err
	}
	return f.Chmod(ownMode)
}

// openPath opens a file of a sandbox or a disk for reading, and nothing that a link leads to.
func (d *Disks) openPath(path string) (*os.File, error) {
	at, err := d.locate(path)
	if err != nil {
		return nil, err
	}
	return d.openFile(at)
}

// PullFile sets a qcow2 file on another base and copies into it what it would lose by that. NotFound: there is no such
// file. FailedPrecondition: a QEMU has it open. ResourceExhausted: there is no room.
func (d *Disks) PullFile(ctx context.Context, path string, base vm.BackingFile) error {
	if err := d.rebase(ctx, path, base); err != nil {
		return fmt.Errorf("pull into %s: %w", path, err)
	}
	return nil
}

// SetBase sets a qcow2 file on another base of the same content; a path of "" leaves it without one. Errors are those of PullFile.
func (d *Disks) SetBase(ctx context.Context, path string, base vm.BackingFile) error {
	if err := d.rebase(ctx, path, base, "-u"); err != nil {
		return fmt.Errorf("set the base of %s: %w", path, err)
	}
	return nil
}

// rebase has qemu-img do it as QEMU's user: the headers of these files are written by QEMUs, and what they name is opened.
func (d *Disks) rebase(ctx context.Context, path string, base vm.BackingFile, flags ...string) error {
	unlock, err := d.locks.Lock(ctx, path)
	if err != nil {
		return err
	}
	defer unlock()
	if err := d.handOver(ctx, path); err != nil {
		return err
	}
	args := append([]string{"rebase", "-q", "-f", string(vm.FormatQCOW2)}, flags...)
	if base.Path != "" {
		args = append(args, "-F", string(base.Format))
	}
	return qemuImgAs(ctx, d.owner, append(args, "-b", base.Path, path)...)
}

// FileUsage is what one file takes on its file system. MountPoint is the folder of the sandboxes.
func (d *Disks) FileUsage(ctx context.Context, path string) (vm.FSUsage, error) {
	u := vm.FSUsage{At: time.Now(), MountPoint: d.sandboxes}
	if err := context.Cause(ctx); err != nil {
		return u, err
	}
	f, err := d.openPath(path)
	if errors.Is(err, fs.ErrNotExist) {
		return u, nil
	}
	if err != nil {
		return u, fmt.Errorf("usage of %s: %w", path, err)
	}
	info, err := f.Stat()
	if err == nil {
		u.UsedInodes, u.UsedBytes = 1, allocated(info)
	}
	return u, errors.Join(err, f.Close())
}
