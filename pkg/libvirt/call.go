// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"
)

// callsInFlight bounds the calls that run at once on a connection, and with them the OS
// threads that are stuck in C.
const callsInFlight = 4

// call runs do on the connection and returns what it returns, with the error classified
// and named by what was done to which sandbox ("" for none). It waits for a slot for as long as ctx lasts. A do that
// outlives ctx goes on in its slot; call then returns ctx's error, and do's result is
// lost. So do must not write to what its caller reads, and must free what it gets.
func call[T any](ctx context.Context, c *conn, operation, sandbox string, do func(*session) (T, error)) (T, error) {
	var none T
	what := operation
	if sandbox != "" {
		what += " of sandbox " + sandbox
	}
	// Below, a free slot and an ended ctx are a toss-up, and a Define nobody waits for would come after its undo.
	if err := ctx.Err(); err != nil {
		return none, fmt.Errorf("%s: %w", what, err)
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return none, fmt.Errorf("%s: wait for a call to libvirt to end: %w", what, ctx.Err())
	}
	s, err := c.session()
	if err != nil {
		<-c.slots
		return none, fmt.Errorf("%s: %w", what, err)
	}
	type outcome struct {
		value T
		err   error
	}
	ended := make(chan outcome, 1)
	go func() {
		defer func() { <-c.slots }()
		defer s.leave()
		began := time.Now()
		value, err := do(s)
		err = s.explain(err)
		c.observe(operation, time.Since(began), err)
		ended <- outcome{value, err}
	}()
	select {
	case o := <-ended:
		if o.err != nil {
			return none, fmt.Errorf("%s: %w", what, o.err)
		}
		return o.value, nil
	case <-ctx.Done():
		return none, fmt.Errorf("%s: libvirt has not answered yet: %w", what, ctx.Err())
	}
}

// run is call for a do without a result.
func run(ctx context.Context, c *conn, operation, sandbox string, do func(*session) error) error {
	_, err := call(ctx, c, operation, sandbox, func(s *session) (struct{}, error) { return struct{}{}, do(s) })
	return err
}

// explain classifies the error of a call. The code of a call that fails with its
// connection says anything from "internal error" to "broken pipe", so we look at the
// connection itself.
func (s *session) explain(err error) error {
	if _, ok := errors.AsType[virt.Error](err); !ok {
		return err
	}
	if alive, aliveErr := s.IsAlive(); aliveErr == nil && alive {
		return classify(err)
	}
	return fmt.Errorf("the connection broke: %s: %w", plainText(err), errdefs.ErrUnavailable)
}
