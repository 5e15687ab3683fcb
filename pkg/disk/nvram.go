// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/vmlet/vmlet/pkg/vm"
)

// CopyFile makes the file to of what is in from, whole or not at all, in place of an older one and for QEMU to write to. Where from is
// not there, to is not either. ResourceExhausted: there is no room.
func (d *Disks) CopyFile(ctx context.Context, from, to string) error {
	if err := d.copyFile(ctx, from, to); err != nil {
		return fmt.Errorf("copy %s to %s: %w", from, to, err)
	}
	return nil
}

func (d *Disks) copyFile(ctx context.Context, from, to string) (err error) {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	src, err := d.openPath(from)
	if errors.Is(err, fs.ErrNotExist) {
		return d.removeFile(ctx, to)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	return d.create(ctx, to, file{
		mode: ownMode, uid: d.owner.uid, gid: d.owner.gid, replace: true,
		fill: func(_ context.Context, dst *os.File, _ string) error {
			_, err := io.Copy(dst, src)
			return err
		},
	})
}

// SameFiles tells whether two files hold the same, or neither is there.
func (d *Disks) SameFiles(ctx context.Context, a, b string) (bool, error) {
	one, err := d.sumOf(ctx, a)
	if err != nil {
		return false, fmt.Errorf("compare %s and %s: %w", a, b, err)
	}
	other, err := d.sumOf(ctx, b)
	if err != nil {
		return false, fmt.Errorf("compare %s and %s: %w", a, b, err)
	}
	return bytes.Equal(one, other), nil
}

// sumOf is the checksum of a file, nil where none is.
func (d *Disks) sumOf(ctx context.Context, path string) (_ []byte, err error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	f, err := d.openPath(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := sha256.New()
	_, err = io.Copy(sum, f)
	return sum.Sum(nil), err
}

// FetchNVRAM implements lifecycle.Disks.
func (d *Disks) FetchNVRAM(ctx context.Context, dir string, file vm.CheckpointFile, path string) error {
	return d.fetch(ctx, dir, file, path, d.owner, func(dst *os.File, src *summed) error {
		_, err := io.Copy(dst, src)
		return err
	})
}
