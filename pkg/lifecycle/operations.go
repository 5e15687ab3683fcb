// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// How an operation comes to its end without its work.
var (
	errStalled = fmt.Errorf("it has made no progress for %s: %w", workTimeout, context.DeadlineExceeded)
	// errCancelled is somebody's wish.
	errCancelled = fmt.Errorf("it was cancelled: %w", errdefs.ErrAborted)
	// errNextLife ends the wait for work that the next start of vmlet goes on with.
	errNextLife = fmt.Errorf("vmlet is shutting down; it goes on after the next start: %w", errdefs.ErrUnavailable)
	// errCutShort is for what the end of vmlet has undone.
	errCutShort = fmt.Errorf("a restart of vmlet cut it short, and it was undone: %w", errdefs.ErrAborted)
)

// operations are the operations under way. The zero value is ready for use.
type operations struct {
	mu  sync.Mutex
	all []*operation
	// layers is by sandbox the operation that holds the lock of its layers: what its work calls finds it so.
	layers map[string]*operation
}

// operation is long work under way: it outlives its callers, and its record outlives vmlet.
//
//	begun      it is on record, with its intent
//	answered   callers are told err; where it goes on nevertheless, that is told by the operation alone
//	done       its end is on record, or vmlet ends
//
// A nil operation is one that nobody asked for, such as the merging of layers in the background: nothing is told of it.
type operation struct {
	all       *operations
	record    vm.Operation // of callers, only once it is begun
	sandboxID string
	// work is what it is called in errors, also to a caller that leaves before it is begun.
	work string
	// key is what it was asked for: a call that asks for the same shares it.
	key   string
	stall *time.Timer

	begun, answered, done chan struct{}
	err                   error // set before answered is closed

	// Guarded by the mutex of all.
	recorded bool
	progress vm.Progress
	least    int64 // bytes that were left to do when the fewest were, of the part of the work that is done now
	changed  chan struct{}
	// cancel ends the work that is under way; nil while it cannot be, for the reason why.
	cancel    func(context.Context) error
	why       string
	cancelled bool
}

// longCall is what a caller asks for, as an operation.
type longCall struct {
	kind    vm.OperationKind
	subject string
	// key tells it from another one of its kind and subject.
	key string
	// final says why it cannot be cancelled.
	final string
}

// workOf is the work of an operation in an error.
func workOf(kind vm.OperationKind, subject string) string {
	switch kind {
	case vm.OperationSnapshotCreate:
		return "snapshot " + subject
	case vm.OperationSnapshotRestore:
		return "restore snapshot " + subject
	case vm.OperationSnapshotDelete:
		return "delete snapshot " + subject
	case vm.OperationCheckpoint:
		return "checkpoint in " + subject
	}
	return string(kind) + " " + subject
}

func (op *operation) what() string { return op.work }

// join returns the operation that does what is asked for, and whether it is a new one.
func (o *operations) join(sandboxID string, a longCall, at time.Time) (op *operation, first bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := fmt.Sprint(sandboxID, " ", a.kind, " ", a.subject, " ", a.key)
	for _, op := range o.all {
		if op.key == key && !isClosed(op.answered) {
			return op, false
		}
	}
	op = o.add(sandboxID, vm.Operation{ID: newID(), Kind: a.kind, Subject: a.subject, State: vm.OperationRunning, StartedAt: at})
	op.key, op.why = key, a.final
	return op, true
}

// add makes an operation of a record. mu is held.
func (o *operations) add(sandboxID string, record vm.Operation) *operation {
	op := &operation{
		all: o, record: record, sandboxID: sandboxID, work: workOf(record.Kind, record.Subject),
		begun: make(chan struct{}), answered: make(chan struct{}), done: make(chan struct{}), changed: make(chan struct{}),
	}
	o.all = append(o.all, op)
	return op
}

// resume makes an operation of what is on record of an earlier life.
func (o *operations) resume(sandboxID string, record vm.Operation, why string) *operation {
	o.mu.Lock()
	defer o.mu.Unlock()
	op := o.add(sandboxID, record)
	op.recorded, op.why = true, why
	close(op.begun)
	return op
}

// byID returns the operation under way with an ID, nil if there is none.
func (o *operations) byID(id string) *operation {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, op := range o.all {
		if op.record.ID == id {
			return op
		}
	}
	return nil
}

// at returns the operation that holds the lock of a sandbox's layers, nil if none does.
func (o *operations) at(sandboxID string) *operation {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.layers[sandboxID]
}

// hold says that an operation has the lock of its sandbox's layers until release.
func (o *operations) hold(op *operation) (release func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.layers == nil {
		o.layers = map[string]*operation{}
	}
	o.layers[op.sandboxID] = op
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.layers, op.sandboxID)
	}
}

// noted says that operations of a sandbox are on record, and returns those that were not before.
func (o *operations) noted(sb vm.Sandbox) (news []vm.Operation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, op := range o.all {
		if op.recorded || op.sandboxID != sb.ID {
			continue
		}
		if record, ok := operationByID(sb.Status, op.record.ID); ok {
			op.recorded, op.record = true, record
			close(op.begun)
			news = append(news, record)
		}
	}
	return news
}

// finish forgets an operation that has ended, or that the next life goes on with.
func (o *operations) finish(op *operation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range o.all {
		if o.all[i] == op {
			o.all = append(o.all[:i:i], o.all[i+1:]...)
			break
		}
	}
	op.cancel = nil
	close(op.done)
}

// answer tells the callers, once.
func (op *operation) answer(err error) {
	op.all.mu.Lock()
	defer op.all.mu.Unlock()
	if !isClosed(op.answered) {
		op.err = err
		close(op.answered)
	}
}

// alive gives the operation that much time until it must have come further.
func (op *operation) alive(within time.Duration) {
	if op != nil && op.stall != nil {
		op.stall.Reset(within)
	}
}

// anew says that the next part of the work begins, whatever was left of the one before.
func (op *operation) anew() {
	op.all.mu.Lock()
	op.least = 0
	op.all.mu.Unlock()
	op.alive(workTimeout)
}

// advance takes note of how far it is. What is left may grow, as a guest writes to memory that was saved already: it has
// come further only once less is left than ever before.
func (op *operation) advance(p vm.Progress) {
	op.all.mu.Lock()
	defer op.all.mu.Unlock()
	if p == op.progress || p.Total <= 0 {
		return
	}
	op.progress = p
	close(op.changed)
	op.changed = make(chan struct{})
	if left := p.Total - p.Done; op.least == 0 || left < op.least {
		op.least = max(left, 1)
		op.alive(workTimeout)
	}
}

// mayBeCancelled says how to end what is done now, until the returned function is called, and then as before, or no more.
// false where it was cancelled before.
func (op *operation) mayBeCancelled(cancel func(context.Context) error) (noMore func(why string), ok bool) {
	op.all.mu.Lock()
	defer op.all.mu.Unlock()
	before := op.cancel
	op.cancel = cancel
	return func(why string) {
		op.all.mu.Lock()
		defer op.all.mu.Unlock()
		op.cancel, op.why = before, why
	}, !op.cancelled
}

// isCancelled tells whether somebody wishes its end.
func (op *operation) isCancelled() bool {
	op.all.mu.Lock()
	defer op.all.mu.Unlock()
	return op.cancelled
}

// seen is the operation as it is now, and what is closed when it is further.
func (op *operation) seen() (p vm.Progress, cancellable bool, changed <-chan struct{}) {
	op.all.mu.Lock()
	defer op.all.mu.Unlock()
	return op.progress, op.cancel != nil, op.changed
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
