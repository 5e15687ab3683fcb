// SPDX-License-Identifier: Apache-2.0

package vmagent

import (
	"context"
	"errors"
	"io"

	"github.com/vmlet/vmlet/pkg/agentlink"
	"github.com/vmlet/vmlet/pkg/vm"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// give sends what stdin brings until it ends: then it returns nil. A reader that blocks
// keeps give beyond ctx, until it returns.
func give(st *agentlink.Stream, stdin io.Reader) error {
	buffer := make([]byte, agentlink.MaxPiece)
	for {
		n, err := stdin.Read(buffer)
		if n > 0 {
			if err := st.Send(&agentv1.ToProcess{What: &agentv1.ToProcess_Stdin{Stdin: buffer[:n]}}); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// resize sends new sizes of the terminal until there are no more, ctx ends or the stream.
func resize(ctx context.Context, st *agentlink.Stream, sizes <-chan vm.TerminalSize) {
	for {
		select {
		case to, more := <-sizes:
			if !more || st.Send(&agentv1.ToProcess{What: &agentv1.ToProcess_Resize{Resize: size(to)}}) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}
