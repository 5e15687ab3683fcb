// SPDX-License-Identifier: Apache-2.0

package revert_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/vmlet/vmlet/pkg/revert"
)

var errStep = errors.New("step failed")

// run does three steps of which the second undo may fail, and returns what was undone.
func run(ctx context.Context, succeed bool, undoErr error) (undone []string, err error) {
	rev := revert.New(ctx)
	defer rev.Fail(&err)
	for _, name := range []string{"a", "b", "c"} {
		rev.Add(name, func(ctx context.Context) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			undone = append(undone, name)
			if name == "b" {
				return undoErr
			}
			return nil
		})
	}
	if succeed {
		rev.Success()
		return undone, nil
	}
	return undone, errStep
}

func TestFailUndoesLastFirstAlsoWhenTheCallerIsGone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	undone, err := run(ctx, false, nil)
	if want := []string{"c", "b", "a"}; !slices.Equal(undone, want) {
		t.Errorf("undone %v, want %v", undone, want)
	}
	if !errors.Is(err, errStep) || errors.Is(err, revert.ErrIncomplete) {
		t.Fatalf("error = %v, want just the step's", err)
	}
}

func TestFailOrderAndGoesOnPastAFailingUndo(t *testing.T) {
	var order []string
	var err error
	rev := revert.New(t.Context())
	undoErr := errors.New("busy")
	for _, name := range []string{"a", "b", "c"} {
		rev.Add(name, func(context.Context) error {
			order = append(order, name)
			if name == "b" {
				return undoErr
			}
			return nil
		})
	}
	err = errStep
	rev.Fail(&err)
	if want := []string{"c", "b", "a"}; !slices.Equal(order, want) {
		t.Errorf("undone %v, want %v", order, want)
	}
	for _, want := range []error{errStep, undoErr, revert.ErrIncomplete} {
		if !errors.Is(err, want) {
			t.Errorf("error %v does not hold %v", err, want)
		}
	}
}

func TestSuccessKeepsWhatWasDone(t *testing.T) {
	undone, err := run(t.Context(), true, nil)
	if err != nil || len(undone) != 0 {
		t.Fatalf("undone %v, error %v; want nothing", undone, err)
	}
}
