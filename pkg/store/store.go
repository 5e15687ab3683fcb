// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/vmlet/vmlet/pkg/paths"
	"github.com/vmlet/vmlet/pkg/vm"
)

// Options change how a store works.
type Options struct {
	// NoSync leaves syncing to the kernel: writes survive the end of the process but
	// not of the host. For tests.
	NoSync bool
}

// Store is an open store. It is safe for concurrent use.
type Store struct {
	lock       *nodeLock
	db         *bolt.DB
	owner      string
	sandboxes  *Records[vm.Sandbox]
	containers *Records[vm.Container]
	disks      *Records[vm.PersistentDisk]
	closing    sync.Once
}

// Open opens the store of a node, or makes it, with the node's root folder. It is
// FailedPrecondition when another process has it open, which the error names, or when
// a newer vmlet wrote it; DataLoss when the file is damaged.
func Open(ctx context.Context, node paths.Node, opts Options) (*Store, error) {
	s, err := open(ctx, node, opts, migrations)
	if err != nil {
		return nil, fmt.Errorf("open the store %s: %w", node.DB(), err)
	}
	return s, nil
}

// open is Open with the migrations as an argument; they define the schema version.
func open(ctx context.Context, node paths.Node, opts Options, steps []migration) (_ *Store, err error) {
	// QEMU's user has to reach the disks below the root, so others may pass through it.
	if err := os.MkdirAll(node.Root, 0o711); err != nil { //nolint:gosec // passing through is all that 0711 grants
		return nil, err
	}
	s := &Store{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.lock, err = acquireNodeLock(ctx, node.Lock()); err != nil {
		return nil, err
	}
	if err = ctx.Err(); err != nil {
		return nil, err
	}
	err = guardDamage(func() error { return s.load(node.DB(), opts, steps) })
	if err != nil {
		return nil, err
	}
	return s, nil
}

// load opens the file and fills the memory from it.
func (s *Store) load(path string, opts Options, steps []migration) (err error) {
	version := len(steps) + 1
	if err := makeFile(path, version); err != nil {
		return err
	}
	if err := checkLength(path); err != nil {
		return err
	}
	if s.db, err = openFile(path, opts); err != nil {
		return err
	}
	if s.owner, err = prepare(s.db, steps); err != nil {
		return err
	}
	c := &committer{db: s.db, update: s.db.Update}
	s.sandboxes = newRecords(sandboxes, version, c, func(v vm.Sandbox) time.Time { return v.CreatedAt })
	s.containers = newRecords(containers, version, c, func(v vm.Container) time.Time { return v.CreatedAt })
	s.disks = newRecords(disks, version, c, func(v vm.PersistentDisk) time.Time { return v.CreatedAt })
	return s.db.View(func(tx *bolt.Tx) error {
		return errors.Join(s.sandboxes.load(tx), s.containers.load(tx), s.disks.load(tx))
	})
}

// Owner is the ID of this store, 32 hex digits, made when it was first opened.
func (s *Store) Owner() string { return s.owner }

// Sandboxes are the records of all sandboxes.
func (s *Store) Sandboxes() *Records[vm.Sandbox] { return s.sandboxes }

// Containers are the records of all containers.
func (s *Store) Containers() *Records[vm.Container] { return s.containers }

// Disks are the records of all persistent disks, by their names.
func (s *Store) Disks() *Records[vm.PersistentDisk] { return s.disks }

// Close waits for the write under way and gives the root folder back. Later writes
// fail as Unavailable; reads go on answering from memory. Idempotent.
func (s *Store) Close() (err error) {
	s.closing.Do(func() {
		if s.db != nil {
			err = s.db.Close()
		}
		if s.lock != nil {
			err = errors.Join(err, s.lock.release())
		}
	})
	return err
}
