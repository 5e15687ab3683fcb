// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Why a reboot came to its end without the guest's.
var (
	errNoReboot      = fmt.Errorf("the guest was not seen to boot anew in time; it is left as it is: %w", context.DeadlineExceeded)
	errEndedInstead  = fmt.Errorf("the VM has ended: %w", errdefs.ErrFailedPrecondition)
	errBooting       = fmt.Errorf("its guest has powered off to reboot and is being booted again: %w", errdefs.ErrUnavailable)
	errAnotherReboot = fmt.Errorf("a reboot of another mode took its place: %w", errdefs.ErrAborted)
)

// reboots are the reboots under way, by container ID.
type reboots struct {
	mu sync.Mutex
	m  map[string]*reboot
}

// reboot is one under way. done is closed after result and err are set.
type reboot struct {
	id        string
	sandboxID string
	mode      vm.RebootMode
	ctx       context.Context //nolint:containedctx // the reboot's own: it outlives its caller
	end       context.CancelCauseFunc
	// news has one slot: something was seen that may be the reboot.
	news chan struct{}
	done chan struct{}

	result vm.Rebooted
	err    error

	// before is the reboot whose place this one has taken, nil for none.
	before *reboot
	*presser
}

// begin puts a recorded reboot in the place of the one under way.
func (r *reboots) begin(life context.Context, c vm.Container) *reboot {
	ctx, end := context.WithCancelCause(life)
	op := &reboot{
		id: c.Status.Reboot.ID, sandboxID: c.SandboxID, mode: c.Status.Reboot.Mode, ctx: ctx, end: end,
		news: make(chan struct{}, 1), done: make(chan struct{}), presser: newPresser(),
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.m == nil {
		r.m = map[string]*reboot{}
	}
	if old := r.m[c.ID]; old != nil {
		old.end(errAnotherReboot)
		old.calm()
		op.before = old
	}
	r.m[c.ID] = op
	return op
}

// of returns the reboot under way of a container, nil if there is none.
func (r *reboots) of(containerID string) *reboot {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.m[containerID]
}

// finish tells how a reboot ended.
func (r *reboots) finish(containerID string, op *reboot, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.m[containerID] == op {
		delete(r.m, containerID)
	}
	op.end(nil)
	op.err = err
	close(op.done)
}

// tell tells whoever waits for a reboot of a sandbox's guest that there may have been one.
func (r *reboots) tell(sandboxID string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, op := range r.m {
		if op.sandboxID != sandboxID {
			continue
		}
		select {
		case op.news <- struct{}{}:
		default: // it has not come to the last one yet
		}
	}
}

// stands tells whether this is the reboot that is on record.
func (op *reboot) stands(c vm.Container) bool {
	return c.Status.Reboot != nil && c.Status.Reboot.ID == op.id
}

// drain forgets what was seen before the guest is asked.
func (op *reboot) drain() {
	select {
	case <-op.news:
	default:
	}
}

// calmed is calm, and returns when no press is under way, those of the reboots before it included. Unavailable if one is when
// ctx ends.
func (op *reboot) calmed(ctx context.Context) error {
	op.calm()
	if op.before != nil {
		if err := op.before.calmed(ctx); err != nil {
			return err
		}
	}
	return op.presser.calmed(ctx)
}
