// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

// Shares is lifecycle.Shares in memory. Every host path exists but those that Lose names.
// It is safe for concurrent use.
type Shares struct {
	mu       sync.Mutex
	trees    map[string][]vm.ShareMount
	lost     map[string]bool
	failures map[string][]error
}

var _ lifecycle.Shares = (*Shares)(nil)

// NewShares returns shares of no sandbox.
func NewShares() *Shares {
	return &Shares{trees: map[string][]vm.ShareMount{}, lost: map[string]bool{}, failures: map[string][]error{}}
}

// FailNext makes the next call of a method ("Create", "Remove", "List") return err.
func (s *Shares) FailNext(method string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures[method] = append(s.failures[method], err)
}

// Lose takes a host path away.
func (s *Shares) Lose(hostPath string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost[hostPath] = true
}

// Tree returns what a sandbox shares, and whether it has a tree.
func (s *Shares) Tree(id string) ([]vm.ShareMount, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mounts, ok := s.trees[id]
	return slices.Clone(mounts), ok
}

// Create implements lifecycle.Shares.
func (s *Shares) Create(ctx context.Context, id string, mounts []vm.ShareMount) ([]vm.ShareMount, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, "Create"); err != nil {
		return nil, err
	}
	placed := slices.Clone(mounts)
	for i, m := range placed {
		if s.lost[m.HostPath] {
			delete(s.trees, id)
			return nil, fmt.Errorf("mount %s for %s: it does not exist: %w", m.HostPath, m.GuestPath, errdefs.ErrFailedPrecondition)
		}
		placed[i].Source = fmt.Sprintf("%d-%x", i, m.HostPath+m.GuestPath)
	}
	s.trees[id] = placed
	return slices.Clone(placed), nil
}

// Remove implements lifecycle.Shares.
func (s *Shares) Remove(ctx context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, "Remove"); err != nil {
		return err
	}
	delete(s.trees, id)
	return nil
}

// List implements lifecycle.Shares.
func (s *Shares) List(ctx context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, "List"); err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(s.trees)), nil
}

// begin returns the error that a call is to fail with. The caller holds mu.
func (s *Shares) begin(ctx context.Context, method string) error {
	if planned := s.failures[method]; len(planned) > 0 {
		s.failures[method] = planned[1:]
		return planned[0]
	}
	return ctx.Err()
}
