// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// WriteSeed writes the seed ISO of a sandbox, whole or not at all, in place of an older
// one. QEMU's group can read it and nobody else: it holds secrets.
func (d *Disks) WriteSeed(ctx context.Context, path string, iso []byte) error {
	err := d.create(ctx, path, file{
		mode: seedMode, uid: os.Getuid(), gid: d.owner.gid, replace: true,
		fill: func(_ context.Context, f *os.File, _ string) error {
			_, err := f.Write(iso)
			return err
		},
	})
	if err != nil {
		return fmt.Errorf("write seed %s: %w", path, err)
	}
	return nil
}

// CreateSpool makes the empty console spool that QEMU may append to. An existing one is
// left alone: what is in it may not be in the log yet.
func (d *Disks) CreateSpool(ctx context.Context, path string) error {
	err := d.create(ctx, path, file{
		mode: ownMode, uid: d.owner.uid, gid: d.owner.gid,
		fill: func(context.Context, *os.File, string) error { return nil },
	})
	if err != nil {
		return fmt.Errorf("create console spool %s: %w", path, err)
	}
	return nil
}

// RemoveFile removes one file. Idempotent.
func (d *Disks) RemoveFile(ctx context.Context, path string) error {
	if err := d.removeFile(ctx, path); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

func (d *Disks) removeFile(ctx context.Context, path string) error {
	at, err := d.locate(path)
	if err != nil {
		return err
	}
	unlock, err := d.locks.Lock(ctx, path)
	if err != nil {
		return err
	}
	defer unlock()
	folder, err := d.folder(at.dir, at.id, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(removeIfThere(folder, at.file), removeIfThere(folder, at.part()), folder.Close())
}
