// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// errInterrupted ends a merge for somebody who needs its files now. What was copied stays copied.
var errInterrupted = fmt.Errorf("something else needs the disk now: %w", errdefs.ErrUnavailable)

// merges are the merges under way of files that no QEMU has open, by sandbox. They move many bytes, and so hold no lock of the
// sandbox: who has that and is about to open, change or remove its root disks calls interrupt first. A merge can be cut
// short at any moment; it is begun under the sandbox's lock, so none begins before that is given back.
type merges struct {
	mu sync.Mutex
	m  map[string]*restingMerge
}

type restingMerge struct {
	once               sync.Once
	interrupted, ended chan struct{}
}

// begin counts a merge in, under the sandbox's lock. What it returns runs it without.
func (m *merges) begin(sandboxID string, do func(context.Context) error) func(context.Context) error {
	one := &restingMerge{interrupted: make(chan struct{}), ended: make(chan struct{})}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.m == nil {
		m.m = map[string]*restingMerge{}
	}
	m.m[sandboxID] = one
	return func(ctx context.Context) error {
		defer func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.m[sandboxID] == one {
				delete(m.m, sandboxID)
			}
			close(one.ended)
		}()
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		go func() {
			select {
			case <-one.interrupted:
				cancel(errInterrupted)
			case <-one.ended:
			}
		}()
		err := do(ctx)
		if err != nil && errors.Is(context.Cause(ctx), errInterrupted) {
			return errInterrupted
		}
		return err
	}
}

// interrupt ends the merge of a sandbox's files, and returns when nothing of it is at them any more.
func (m *merges) interrupt(ctx context.Context, sandboxID string) error {
	m.mu.Lock()
	one := m.m[sandboxID]
	m.mu.Unlock()
	if one == nil {
		return nil
	}
	one.once.Do(func() { close(one.interrupted) })
	select {
	case <-one.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("layers of the disk are still being merged: %w", ctx.Err())
	}
}

// mergeAtRest copies what is below a file that no QEMU has open, and above base, into the file. Under the sandbox's lock; what
// it returns does it without.
func (s *Service) mergeAtRest(t diskTree, path string, layer vm.Layer, base vm.BackingFile) func(context.Context) error {
	return s.merges.begin(t.sandboxID, func(ctx context.Context) error {
		ctx, stop := s.untilClosed(ctx)
		defer stop()
		if err := s.handOverLayers(ctx, t.DiskTree, layer.ID); err != nil {
			return err
		}
		defer s.track(ctx, t.sandboxID, s.growthOf(ctx, path, layer.Path))()
		return s.deps.Disks.PullFile(ctx, path, base)
	})
}

// growthOf tells how far a merge is by what the file takes: qemu-img copies what the layers have and the file lacks.
func (s *Service) growthOf(ctx context.Context, path string, layers ...string) func(context.Context) (vm.Progress, error) {
	before, failed := s.deps.Disks.FileUsage(ctx, path)
	var total int64
	for _, layer := range layers {
		all, err := s.deps.Disks.FileUsage(ctx, layer)
		failed, total = errors.Join(failed, err), total+int64(all.UsedBytes)
	}
	return func(ctx context.Context) (vm.Progress, error) {
		now, err := s.deps.Disks.FileUsage(ctx, path)
		if err := errors.Join(failed, err); err != nil {
			return vm.Progress{}, err
		}
		return vm.Progress{Done: min(total, max(0, int64(now.UsedBytes)-int64(before.UsedBytes))), Total: total}, nil
	}
}
