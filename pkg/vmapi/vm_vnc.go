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

type vncStream = grpc.BidiStreamingServer[vmletv1.VNCRequest, vmletv1.VNCResponse]

// VNC connects a client to a VM's VNC server.
func (s *vmServer) VNC(stream vncStream) error {
	first, err := stream.Recv()
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := checkVM(first.GetVm()); err != nil {
		return err
	}
	opened := func() error { return stream.Send(&vmletv1.VNCResponse{}) }
	return s.vms.VNC(stream.Context(), first.GetVm(), opened, &vncClient{stream: stream})
}

// vncClient is the bytes of a stream's messages.
type vncClient struct {
	stream vncStream
	left   []byte
}

// Read is io.Reader's. It ends with io.EOF where the client closed its side.
func (c *vncClient) Read(p []byte) (int, error) {
	for len(c.left) == 0 {
		msg, err := c.stream.Recv()
		if err != nil {
			return 0, err
		}
		if msg.GetVm() != "" {
			return 0, fmt.Errorf("vm: it is for the first message alone: %w", errdefs.ErrInvalidArgument)
		}
		c.left = msg.GetData()
	}
	n := copy(p, c.left)
	c.left = c.left[n:]
	return n, nil
}

// Write is io.Writer's.
func (c *vncClient) Write(p []byte) (int, error) {
	if err := c.stream.Send(&vmletv1.VNCResponse{Data: p}); err != nil {
		return 0, err
	}
	return len(p), nil
}
