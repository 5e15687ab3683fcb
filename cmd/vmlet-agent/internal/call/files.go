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

// chunks returns the chunks that follow a request, one at a time.
func chunks(st *agentlink.Stream) func() (*agentv1.FileChunk, error) {
	return func() (*agentv1.FileChunk, error) {
		var c agentv1.FileChunk
		err := st.Receive(&c)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, fmt.Errorf("the files came in part: %w", err)
		}
		return &c, nil
	}
}

// pieces returns the pieces of one file, and then io.EOF.
func pieces(next func() (*agentv1.FileChunk, error)) func() ([]byte, error) {
	last := false
	return func() ([]byte, error) {
		if last {
			return nil, io.EOF
		}
		c, err := next()
		last = c.GetLast()
		return c.GetData(), err
	}
}

// watchFiles tells of files that the guest changes, until the caller goes.
func (s *Server) watchFiles(ctx context.Context, st *agentlink.Stream, req *agentv1.WatchFilesRequest) error {
	watch, err := s.Files.Watch(req.GetPaths())
	if err != nil {
		return err
	}
	defer watch.Close() //nolint:errcheck // read only
	if err := st.Send(&agentv1.Reply{}); err != nil {
		return nil // nobody is there to be told
	}
	err = watch.Run(ctx, func(c *agentv1.FileChange) error { return st.Send(c) })
	if err != nil && ctx.Err() == nil {
		s.Log(fmt.Errorf("watch files: %w", err))
	}
	return nil
}
