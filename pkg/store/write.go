// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/failpoint"
)

// Create stores a new record. It is AlreadyExists if there is one with the ID, and
// Unavailable if it could not be written. step names the failpoints.
func (r *Records[T]) Create(id string, v T, step string) error {
	defer r.writers.lock(id)()
	if id == "" {
		return fmt.Errorf("create a record in %s without an ID: %w", r.name, errdefs.ErrInvalidArgument)
	}
	if _, err := r.Get(id); err == nil {
		return fmt.Errorf("%s %q: %w", r.name, id, errdefs.ErrAlreadyExists)
	}
	_, err := r.store(id, v, step)
	return err
}

// Update replaces a record by what change makes of it, and returns the new value.
// change must not block; its error is returned unchanged, and then nothing happens.
// Updates of one record come one after another. NotFound for an unknown ID,
// Unavailable if the record could not be written. step names the failpoints.
func (r *Records[T]) Update(id, step string, change func(T) (T, error)) (T, error) {
	defer r.writers.lock(id)()
	var none T
	old, err := r.Get(id)
	if err != nil {
		return none, err
	}
	v, err := change(old)
	if err != nil {
		return none, err
	}
	return r.store(id, v, step)
}

// Delete removes a record; an unknown ID is no error. Unavailable if that could not
// be written. step names the failpoints.
func (r *Records[T]) Delete(id, step string) error {
	defer r.writers.lock(id)()
	if _, err := r.Get(id); err != nil {
		return nil // deleted already
	}
	return r.commit(step, &write{
		bucket:  r.name,
		id:      id,
		publish: func() { r.publish(id, nil) },
		resync:  func(stored []byte) { r.resync(id, stored) },
	})
}

// store writes v and shows to readers what was written.
func (r *Records[T]) store(id string, v T, step string) (T, error) {
	stored, readBack, err := encode(r.version, v)
	if err != nil {
		return readBack, fmt.Errorf("%s %q: %w", r.name, id, err)
	}
	e := &entry[T]{id, r.createdAt(readBack), readBack}
	err = r.commit(step, &write{
		bucket:  r.name,
		id:      id,
		value:   stored,
		publish: func() { r.publish(id, e) },
		resync:  func(onDisk []byte) { r.resync(id, onDisk) },
	})
	if err != nil {
		var none T
		return none, err
	}
	return readBack, nil
}

func (r *Records[T]) commit(step string, w *write) error {
	failpoint.Hit("store/" + step + "/before")
	if err := r.committer.commit(w); err != nil {
		return fmt.Errorf("write %s %q (%s): %w: %w", r.name, w.id, step, errdefs.ErrUnavailable, err)
	}
	failpoint.Hit("store/" + step + "/after")
	return nil
}

// publish shows a record to readers, or hides it when e is nil.
func (r *Records[T]) publish(id string, e *entry[T]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e == nil {
		r.remove(id)
		return
	}
	r.put(e)
}

// resync shows readers what a failed write left on disk; stored is nil for no record.
func (r *Records[T]) resync(id string, stored []byte) {
	if stored == nil {
		r.publish(id, nil)
		return
	}
	v, err := decode[T](r.version, stored)
	if err != nil {
		return // neither the old record nor the new one: memory has the last good one
	}
	r.publish(id, &entry[T]{id, r.createdAt(v), v})
}
