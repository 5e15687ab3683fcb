// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"sync"
	"time"
)

// stepTimes are the times of named steps, in the order in which they were first taken.
// It is safe for concurrent use.
type stepTimes struct {
	mu    sync.Mutex
	order []string
	times map[string]*samples
}

func newStepTimes() *stepTimes { return &stepTimes{times: map[string]*samples{}} }

// time runs a step and keeps how long it took.
func (s *stepTimes) time(name string, do func() error) error {
	begin := time.Now()
	err := do()
	s.add(name, time.Since(begin))
	return err
}

func (s *stepTimes) add(name string, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.times[name] == nil {
		s.times[name] = &samples{}
		s.order = append(s.order, name)
	}
	s.times[name].add(took)
}

// reset forgets all times: what was measured so far was to warm up.
func (s *stepTimes) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.order, s.times = nil, map[string]*samples{}
}
