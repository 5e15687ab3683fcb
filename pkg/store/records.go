// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	bolt "go.etcd.io/bbolt"
)

// Records is one collection. Reads are answered from memory and never wait for the
// disk; the values share maps and slices with the store, so never write into them.
// It is safe for concurrent use.
type Records[T any] struct {
	name      string // the bucket
	version   int    // of the schema
	committer *committer
	createdAt func(T) time.Time

	writers keyed

	mu      sync.RWMutex // held for moments: never while waiting for the disk
	byID    map[string]*entry[T]
	ordered []*entry[T] // in the order of List
}

// entry is one record in memory. It is replaced as a whole, never changed.
type entry[T any] struct {
	id      string
	created time.Time
	value   T
}

func newRecords[T any](name string, version int, c *committer, createdAt func(T) time.Time) *Records[T] {
	return &Records[T]{name: name, version: version, committer: c, createdAt: createdAt, byID: map[string]*entry[T]{}}
}

// Get returns a record, or NotFound.
func (r *Records[T]) Get(id string) (T, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if e := r.byID[id]; e != nil {
		return e.value, nil
	}
	var none T
	return none, fmt.Errorf("%s %q: %w", r.name, id, errdefs.ErrNotFound)
}

// List returns all records by their CreatedAt, and by ID where that is the same. The
// slice is the caller's.
func (r *Records[T]) List() []T {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make([]T, len(r.ordered))
	for i, e := range r.ordered {
		all[i] = e.value
	}
	return all
}

// All returns all records in the order of List, as they stand in memory. A record is
// replaced as a whole by a change, never changed in place: an address stands for one
// version of a record. Never write through it. The slice is the caller's.
func (r *Records[T]) All() []*T {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make([]*T, len(r.ordered))
	for i, e := range r.ordered {
		all[i] = &e.value
	}
	return all
}

// load fills the memory from the file.
func (r *Records[T]) load(tx *bolt.Tx) error {
	return tx.Bucket([]byte(r.name)).ForEach(func(id, stored []byte) error {
		v, err := decode[T](r.version, stored)
		if err != nil {
			return fmt.Errorf("%s %q: %w", r.name, id, err)
		}
		e := &entry[T]{string(id), r.createdAt(v), v}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.put(e)
		return nil
	})
}

// put shows a record to readers. mu is held.
func (r *Records[T]) put(e *entry[T]) {
	if old := r.byID[e.id]; old != nil {
		i, _ := slices.BinarySearchFunc(r.ordered, old, byCreation[T])
		if byCreation(old, e) == 0 {
			r.ordered[i] = e
			r.byID[e.id] = e
			return
		}
		r.ordered = slices.Delete(r.ordered, i, i+1)
	}
	i, _ := slices.BinarySearchFunc(r.ordered, e, byCreation[T])
	r.ordered = slices.Insert(r.ordered, i, e)
	r.byID[e.id] = e
}

// remove hides a record from readers. mu is held.
func (r *Records[T]) remove(id string) {
	e := r.byID[id]
	if e == nil {
		return
	}
	i, _ := slices.BinarySearchFunc(r.ordered, e, byCreation[T])
	r.ordered = slices.Delete(r.ordered, i, i+1)
	delete(r.byID, id)
}

func byCreation[T any](a, b *entry[T]) int {
	if c := a.created.Compare(b.created); c != 0 {
		return c
	}
	return cmp.Compare(a.id, b.id)
}
