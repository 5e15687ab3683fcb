// SPDX-License-Identifier: Apache-2.0

// Package revert keeps the undo of each step beside the step.
//
//	rev := revert.New(ctx)
//	defer rev.Fail(&err)
//	... do the step ...
//	rev.Add("CNI ADD", undo)
//	... more steps ...
//	rev.Success()
package revert

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vmlet/vmlet/pkg/failpoint"
)

// Timeout bounds one undo step. Undo runs after the caller has gone, so it cannot
// borrow the caller's deadline.
const Timeout = 30 * time.Second

// ErrIncomplete marks the error of an operation whose undo failed: something is left
// behind, and whoever keeps the record must keep it.
var ErrIncomplete = errors.New("undo incomplete")

type step struct {
	name string
	undo func(context.Context) error
}

// Reverter collects undo steps. It is not safe for concurrent use.
type Reverter struct {
	ctx   context.Context //nolint:containedctx // the values only: undo runs on a detached copy
	steps []step
	done  bool
}

// New starts an empty list. Undo steps get ctx's values but not its end.
func New(ctx context.Context) *Reverter {
	return &Reverter{ctx: context.WithoutCancel(ctx)}
}

// Add registers the undo of a step that is about to be done or has been done; name
// says which step and holds no IDs, since a failpoint is named after it.
func (r *Reverter) Add(name string, undo func(context.Context) error) {
	r.steps = append(r.steps, step{name, undo})
	failpoint.Hit("revert/" + name)
}

// Success forgets all steps: what was done stays.
func (r *Reverter) Success() { r.done = true }

// Fail undoes all steps, last first, unless Success was called. It goes on past a
// failing undo and joins what failed to *err, marked with ErrIncomplete.
func (r *Reverter) Fail(err *error) {
	if r.done {
		return
	}
	r.done = true
	for _, s := range slices.Backward(r.steps) {
		if undoErr := r.undo(s); undoErr != nil {
			*err = errors.Join(*err, fmt.Errorf("undo %s: %w: %w", s.name, ErrIncomplete, undoErr))
		}
	}
}

func (r *Reverter) undo(s step) error {
	ctx, cancel := context.WithTimeout(r.ctx, Timeout)
	defer cancel()
	return s.undo(ctx)
}
