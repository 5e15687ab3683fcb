// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"slices"
	"strings"
	"sync"
)

// Script is what a test tells a fake to do wrong, and what the fake saw. Fakes embed
// it. The zero value lets every call through. Safe for concurrent use.
type Script struct {
	lock    sync.Mutex
	calls   []string
	changed chan struct{}
	fails   map[string][]error
	blocks  map[string]chan struct{}
}

// FailNext makes the next call of method return err without any effect. Several
// failures of one method are used up in the order they were given.
func (s *Script) FailNext(method string, err error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.fails == nil {
		s.fails = map[string][]error{}
	}
	s.fails[method] = append(s.fails[method], err)
}

// Block holds every call of method, before it has any effect, until release is called
// or the call's ctx ends. The calls are seen by Calls and WaitCall while they wait.
func (s *Script) Block(method string) (release func()) {
	gate := make(chan struct{})
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.blocks == nil {
		s.blocks = map[string]chan struct{}{}
	}
	s.blocks[method] = gate
	return sync.OnceFunc(func() {
		s.lock.Lock()
		defer s.lock.Unlock()
		if s.blocks[method] == gate {
			delete(s.blocks, method)
		}
		close(gate)
	})
}

// Calls lists the calls so far, in the order they began: the method and, after a
// space, the sandbox ID where the method has one.
func (s *Script) Calls() []string {
	s.lock.Lock()
	defer s.lock.Unlock()
	return slices.Clone(s.calls)
}

// WaitCall returns once a call like this one, in the form of Calls, has begun, or with
// ctx's error.
func (s *Script) WaitCall(ctx context.Context, call string) error {
	for {
		s.lock.Lock()
		seen := slices.Contains(s.calls, call)
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.lock.Unlock()
		if seen {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// enter is the first thing that every method of a fake does: it records the call, waits
// where the method is blocked, and returns the failure that was scripted for it.
func (s *Script) enter(ctx context.Context, method string, args ...string) error {
	s.lock.Lock()
	s.calls = append(s.calls, strings.Join(append([]string{method}, args...), " "))
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
	gate := s.blocks[method]
	s.lock.Unlock()

	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}

	s.lock.Lock()
	defer s.lock.Unlock()
	if errs := s.fails[method]; len(errs) > 0 {
		s.fails[method] = errs[1:]
		return errs[0]
	}
	return nil
}
