// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"sync"

	bolt "go.etcd.io/bbolt"
)

// committer writes to the file. Writes that arrive while another one is being synced
// are written together afterwards: one sync for all of them. A write that finds
// nobody there is written at once.
type committer struct {
	db     *bolt.DB
	update func(func(*bolt.Tx) error) error // db.Update

	mu    sync.Mutex // guards queue
	queue []*write

	disk sync.Mutex // held while writing; orders what readers see as the disk has it
}

// write is one record to be written, and what follows from it.
type write struct {
	bucket string
	id     string
	value  []byte // nil to delete the record

	publish func()              // called once the write is on disk
	resync  func(onDisk []byte) // called instead if writing failed, with what is there now

	done bool // guarded by committer.disk, as is err
	err  error
}

// commit returns when w is on disk and published, or has failed. Everything that
// waits shares the fate of its transaction.
func (c *committer) commit(w *write) error {
	c.mu.Lock()
	c.queue = append(c.queue, w)
	c.mu.Unlock()

	c.disk.Lock()
	defer c.disk.Unlock()
	if !w.done { // else whoever held the disk before us has taken w along
		c.flush()
	}
	return w.err
}

// flush writes all that waits. disk is held.
func (c *committer) flush() {
	c.mu.Lock()
	batch := c.queue
	c.queue = nil
	c.mu.Unlock()

	err := c.update(func(tx *bolt.Tx) error { return apply(tx, batch) })
	if err != nil {
		c.resync(batch)
	}
	for _, w := range batch {
		w.done, w.err = true, err
		if err == nil {
			w.publish()
		}
	}
}

func apply(tx *bolt.Tx, batch []*write) error {
	for _, w := range batch {
		bucket := tx.Bucket([]byte(w.bucket))
		var err error
		if w.value == nil {
			err = bucket.Delete([]byte(w.id))
		} else {
			err = bucket.Put([]byte(w.id), w.value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// resync has readers see what a failed transaction left: the old records if it failed
// before its last page, the new ones if only the last sync failed.
func (c *committer) resync(batch []*write) {
	//nolint:errcheck // it fails when the file is closed: then nothing changed
	_ = c.db.View(func(tx *bolt.Tx) error {
		for _, w := range batch {
			w.resync(bytes.Clone(tx.Bucket([]byte(w.bucket)).Get([]byte(w.id))))
		}
		return nil
	})
}
