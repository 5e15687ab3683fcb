// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// maxFileChunk is the most bytes of a chunk.
const maxFileChunk = 1 << 20

// WriteGuestFile writes a file that the client sends. InvalidArgument for a stream whose messages are out of order.
func (s *vmServer) WriteGuestFile(stream grpc.ClientStreamingServer[vmletv1.WriteGuestFileRequest, vmletv1.WriteGuestFileResponse]) error {
	first, err := stream.Recv()
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := checkVM(first.GetVm()); err != nil {
		return err
	}
	if err := checkGuestPath(first.GetPath()); err != nil {
		return err
	}
	f, err := writeGuestFile(first)
	if err != nil {
		return err
	}
	content := &fileChunks{recv: stream.Recv}
	if err := content.take(first); err != nil {
		return err
	}
	if err := s.vms.WriteGuestFile(stream.Context(), first.GetVm(), f, content); err != nil {
		return err
	}
	return stream.SendAndClose(&vmletv1.WriteGuestFileResponse{SizeBytes: content.size})
}

// fileChunks reads a write's stream. It ends with io.EOF only where the client closed its side; a stream that broke off is
// an error, so that half a file is not taken for a whole one.
type fileChunks struct {
	recv func() (*vmletv1.WriteGuestFileRequest, error)
	left []byte
	size int64
	err  error
}

// Read implements io.Reader.
func (c *fileChunks) Read(p []byte) (int, error) {
	for len(c.left) == 0 {
		if c.err == nil {
			c.err = c.next()
		}
		if c.err != nil {
			return 0, c.err
		}
	}
	n := copy(p, c.left)
	c.left = c.left[n:]
	return n, nil
}

func (c *fileChunks) next() error {
	msg, err := c.recv()
	if err != nil {
		return err
	}
	if msg.GetVm() != "" || msg.GetPath() != "" {
		return fmt.Errorf("vm, path: only the first message may hold them: %w", errdefs.ErrInvalidArgument)
	}
	return c.take(msg)
}

func (c *fileChunks) take(msg *vmletv1.WriteGuestFileRequest) error {
	if len(msg.GetChunk()) > maxFileChunk {
		return fmt.Errorf("chunk: %d bytes, at most %d: %w", len(msg.GetChunk()), maxFileChunk, errdefs.ErrInvalidArgument)
	}
	c.left = msg.GetChunk()
	c.size += int64(len(c.left))
	return nil
}
