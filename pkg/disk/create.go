// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/containerd/errdefs"
)

// file is how a file is to be made.
type file struct {
	mode     os.FileMode
	uid, gid int
	// replace an existing one; else it is left alone.
	replace bool
	// fill writes the content, by f or by the path, which name the same file.
	fill func(ctx context.Context, f *os.File, path string) error
}

// create makes a file whole or not at all.
func (d *Disks) create(ctx context.Context, path string, how file) error {
	at, err := d.locate(path)
	if err != nil {
		return err
	}
	unlock, err := d.locks.Lock(ctx, path)
	if err != nil {
		return err
	}
	defer unlock()
	folder, err := d.folder(at.dir, at.id, true)
	if err != nil {
		return err
	}
	defer func() { _ = folder.Close() }() //nolint:errcheck // nothing was written through it
	if exists, err := isThere(folder, at.file); err != nil || exists && !how.replace {
		return err
	}
	if err := fillPart(ctx, folder, at, how); err != nil {
		return errors.Join(storageError(err), removeIfThere(folder, at.part()))
	}
	if err := folder.Rename(at.part(), at.file); err != nil {
		return errors.Join(storageError(err), removeIfThere(folder, at.part()))
	}
	return nil
}

// isThere tells whether a name is taken. FailedPrecondition: by something else than a file.
func isThere(folder *os.Root, name string) (bool, error) {
	info, err := folder.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case !info.Mode().IsRegular():
		return false, fmt.Errorf("%s in %s is not a file: %w", name, folder.Name(), errdefs.ErrFailedPrecondition)
	}
	return true, nil
}

// fillPart makes the part of a file, on stable storage.
func fillPart(ctx context.Context, folder *os.Root, at place, how file) (err error) {
	if err := removeIfThere(folder, at.part()); err != nil { // of a crash
		return err
	}
	// Closed to all until it is its owner's: what is written may be secret.
	f, err := folder.OpenFile(at.part(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Chown(how.uid, how.gid); err != nil {
		return err
	}
	if err := f.Chmod(how.mode); err != nil {
		return err
	}
	if err := how.fill(ctx, f, at.dir+"/"+at.id+"/"+at.part()); err != nil {
		return err
	}
	return f.Sync()
}

func removeIfThere(folder *os.Root, name string) error {
	if err := folder.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
