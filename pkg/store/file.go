// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// makeFile makes an empty store of the given schema version, whole or not at all. An
// existing file is left alone.
func makeFile(path string, version int) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	part := path + ".part"
	if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := openFile(part, Options{})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error { return create(tx, version) })
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Rename(part, path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// openFile opens a bbolt file. Its list of free pages is kept in the file: without it
// bbolt scans the whole file when opening, in a goroutine of its own, where the panic
// about a damaged page could not be caught.
func openFile(path string, opts Options) (*bolt.DB, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{
		Timeout:      time.Second, // we hold the node's lock: nobody has a reason to have the file
		NoSync:       opts.NoSync,
		NoGrowSync:   opts.NoSync,
		NoStatistics: true,
		FreelistType: bolt.FreelistMapType,
	})
	return db, openError(err)
}

// checkLength refuses a file that was cut short.
func checkLength(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() == 0 { // bbolt would make a new one of it
		return damaged("it is empty")
	}
	db, err := bolt.Open(path, 0, &bolt.Options{Timeout: time.Second, ReadOnly: true})
	if err != nil {
		return openError(err)
	}
	err = db.View(func(tx *bolt.Tx) error {
		if info.Size() < tx.Size() {
			return damaged(fmt.Sprintf("%d bytes long, should be %d", info.Size(), tx.Size()))
		}
		return nil
	})
	return errors.Join(err, db.Close())
}

// openError classes what bbolt says about opening a file: what does not come from the
// kernel is about the content.
func openError(err error) error {
	var errno syscall.Errno
	switch {
	case err == nil, errors.As(err, &errno):
		return err
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("another process has the file open: %w", errdefs.ErrFailedPrecondition)
	default:
		return damaged(err.Error())
	}
}

// syncFolder makes the names in a folder durable.
func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
