// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"slices"
	"sync"
)

// agentCalls is what a test may do to the fakes of this family: look at their calls, make one
// fail, hold one up. The zero value is ready for use.
type agentCalls struct {
	mu      sync.Mutex
	calls   []string
	faults  map[string][]error
	barrier map[string]*Barrier
}

// Barrier holds up calls of one method.
type Barrier struct {
	entered chan struct{}
	open    chan struct{}
	once    sync.Once
}

// Entered receives one value per call that reached the barrier and waits there.
func (b *Barrier) Entered() <-chan struct{} { return b.entered }

// Release lets the waiting calls, and all later ones, pass. It may be called again.
func (b *Barrier) Release() { b.once.Do(func() { close(b.open) }) }

// FailNext makes the next call of method return err without doing anything. Called
// again before that, it queues a further failure.
func (c *agentCalls) FailNext(method string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.faults == nil {
		c.faults = map[string][]error{}
	}
	c.faults[method] = append(c.faults[method], err)
}

// Block makes calls of method wait, before they do anything, until the barrier is
// released or their ctx ends.
func (c *agentCalls) Block(method string) *Barrier {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.barrier == nil {
		c.barrier = map[string]*Barrier{}
	}
	b := &Barrier{entered: make(chan struct{}, 1024), open: make(chan struct{})}
	c.barrier[method] = b
	return b
}

// Calls lists the calls so far in order, each as the method and the sandbox ID with a
// blank between.
func (c *agentCalls) Calls() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.calls)
}

// begin is the first line of every method of a fake.
func (c *agentCalls) begin(ctx context.Context, method, id string) error {
	c.mu.Lock()
	c.calls = append(c.calls, method+" "+id)
	var fault error
	if queue := c.faults[method]; len(queue) > 0 {
		fault, c.faults[method] = queue[0], queue[1:]
	}
	b := c.barrier[method]
	c.mu.Unlock()

	if b != nil {
		select {
		case <-b.open:
		default:
			b.entered <- struct{}{}
			select {
			case <-b.open:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	if fault != nil {
		return fault
	}
	return ctx.Err()
}
