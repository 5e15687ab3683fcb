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

// ImportImage stores a disk that the client sends. Errors are those of the image store,
// and InvalidArgument for a stream whose messages are out of order.
func (s *imageServer) ImportImage(stream grpc.ClientStreamingServer[vmletv1.ImportImageRequest, vmletv1.ImportImageResponse]) error {
	first, err := stream.Recv()
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	name, ok := first.GetPart().(*vmletv1.ImportImageRequest_Name)
	if !ok || name.Name == "" {
		return fmt.Errorf("name: the first message must hold it: %w", errdefs.ErrInvalidArgument)
	}
	img, err := s.images.ImportImage(stream.Context(), name.Name, &chunks{recv: stream.Recv}, nil)
	if err != nil {
		return err
	}
	return stream.SendAndClose(&vmletv1.ImportImageResponse{Image: image(img)})
}

// chunks reads the rest of an import's stream. It ends with io.EOF only where the client
// closed its side; a stream that broke off is an error, so that half a disk is not taken
// for a whole one.
type chunks struct {
	recv func() (*vmletv1.ImportImageRequest, error)
	left []byte
	err  error
}

// Read is io.Reader's.
func (c *chunks) Read(p []byte) (int, error) {
	for len(c.left) == 0 {
		if c.err == nil {
			c.left, c.err = c.next()
		}
		if c.err != nil {
			return 0, c.err
		}
	}
	n := copy(p, c.left)
	c.left = c.left[n:]
	return n, nil
}

func (c *chunks) next() ([]byte, error) {
	msg, err := c.recv()
	if err != nil {
		return nil, err
	}
	chunk, ok := msg.GetPart().(*vmletv1.ImportImageRequest_Chunk)
	if !ok {
		return nil, fmt.Errorf("chunk: every message but the first must hold one: %w", errdefs.ErrInvalidArgument)
	}
	return chunk.Chunk, nil
}
