// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

var _ lifecycle.Records[vm.Sandbox] = (*fakeRecords[vm.Sandbox])(nil)

// Store is a lifecycle.Store in memory: its field of that name is what a service takes.
// Script's methods are the writes with their step, such as
// "Containers.Update/container starting"; Calls adds the record's ID.
type Store struct {
	Script
	lifecycle.Store
}

// NewStore returns an empty store.
func NewStore() *Store {
	s := &Store{}
	s.Store = lifecycle.Store{
		Owner: "0123456789abcdef0123456789abcdef",
		Sandboxes: &fakeRecords[vm.Sandbox]{
			script: &s.Script, name: "Sandboxes", values: map[string]*vm.Sandbox{},
			createdAt: func(v vm.Sandbox) time.Time { return v.CreatedAt },
		},
		Containers: &fakeRecords[vm.Container]{
			script: &s.Script, name: "Containers", values: map[string]*vm.Container{},
			createdAt: func(v vm.Container) time.Time { return v.CreatedAt },
		},
		Disks: &fakeRecords[vm.PersistentDisk]{
			script: &s.Script, name: "Disks", values: map[string]*vm.PersistentDisk{},
			createdAt: func(v vm.PersistentDisk) time.Time { return v.CreatedAt },
		},
	}
	return s
}

// fakeRecords keeps what would be read back from a disk: fields without a place in the
// JSON vanish here too.
type fakeRecords[T any] struct {
	script    *Script
	name      string
	createdAt func(T) time.Time

	writing sync.Mutex // held over a change
	mu      sync.Mutex
	values  map[string]*T // replaced by a change, never changed
}

// Get implements lifecycle.Records.
func (r *fakeRecords[T]) Get(id string) (T, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, ok := r.values[id]
	if !ok {
		var none T
		return none, fmt.Errorf("%s %q: %w", r.name, id, errdefs.ErrNotFound)
	}
	return *v, nil
}

// List implements lifecycle.Records.
func (r *fakeRecords[T]) List() []T {
	var all []T
	for _, v := range r.All() {
		all = append(all, *v)
	}
	return all
}

// All implements lifecycle.Records.
func (r *fakeRecords[T]) All() []*T {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := make([]string, 0, len(r.values))
	for id := range r.values {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b string) int {
		if c := r.createdAt(*r.values[a]).Compare(r.createdAt(*r.values[b])); c != 0 {
			return c
		}
		return cmp.Compare(a, b)
	})
	all := make([]*T, len(ids))
	for i, id := range ids {
		all[i] = r.values[id]
	}
	return all
}

// Create implements lifecycle.Records.
func (r *fakeRecords[T]) Create(id string, v T, step string) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	if id == "" {
		return fmt.Errorf("%s: a record without an ID: %w", r.name, errdefs.ErrInvalidArgument)
	}
	if _, err := r.Get(id); err == nil {
		return fmt.Errorf("%s %q: %w", r.name, id, errdefs.ErrAlreadyExists)
	}
	_, err := r.put("Create", id, v, step)
	return err
}

// Update implements lifecycle.Records.
func (r *fakeRecords[T]) Update(id, step string, change func(T) (T, error)) (none T, err error) {
	r.writing.Lock()
	defer r.writing.Unlock()
	old, err := r.Get(id)
	if err != nil {
		return none, err
	}
	v, err := change(old)
	if err != nil {
		return none, err
	}
	return r.put("Update", id, v, step)
}

// Delete implements lifecycle.Records.
func (r *fakeRecords[T]) Delete(id, step string) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	if _, err := r.Get(id); err != nil {
		return nil // deleted already
	}
	if err := r.enter("Delete", id, step); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.values, id)
	return nil
}

func (r *fakeRecords[T]) put(method, id string, v T, step string) (none T, err error) {
	b, err := json.Marshal(v)
	if err != nil {
		return none, err
	}
	var readBack T
	if err := json.Unmarshal(b, &readBack); err != nil {
		return none, err
	}
	if err := r.enter(method, id, step); err != nil {
		return none, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.values[id] = &readBack
	return readBack, nil
}

func (r *fakeRecords[T]) enter(method, id, step string) error {
	//nolint:forbidigo // a write to the disk takes no context: it cannot be given up
	return r.script.enter(context.Background(), r.name+"."+method+"/"+step, id)
}
