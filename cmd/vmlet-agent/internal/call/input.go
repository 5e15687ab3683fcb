// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/vmlet/vmlet/pkg/agentlink"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// receiver does what a caller says to a process.
type receiver struct {
	stdin      func([]byte) error
	closeStdin func()
	resize     func(width, height uint32) error
}

// receive has the receiver do what comes, in its order, until the caller closes its half:
// that is no error. What the process does not take is lost with it, and that is none either.
func receive(ctx context.Context, st *agentlink.Stream, r receiver) error {
	deaf := false
	for {
		var m agentv1.ToProcess
		err := st.Receive(&m)
		switch {
		case errors.Is(err, io.EOF), ctx.Err() != nil:
			return nil //nolint:nilerr // it is how receiving ends
		case err != nil:
			return err
		}
		switch what := m.GetWhat().(type) {
		case *agentv1.ToProcess_Stdin:
			if !deaf {
				deaf = r.stdin(what.Stdin) != nil
			}
		case *agentv1.ToProcess_CloseStdin:
			r.closeStdin()
		case *agentv1.ToProcess_Resize:
			if err := r.resize(what.Resize.GetWidth(), what.Resize.GetHeight()); err != nil {
				return fmt.Errorf("resize the terminal: %w", err)
			}
		}
	}
}
