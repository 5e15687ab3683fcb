// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

const (
	// mostReplay and mostInput are the most bytes that may be asked for, and typed in one message.
	mostReplay = 1 << 20
	mostInput  = 64 << 10
)

type consoleStream = grpc.BidiStreamingServer[vmletv1.ConsoleRequest, vmletv1.ConsoleResponse]

// Console connects a client to a VM's serial console.
func (s *vmServer) Console(stream consoleStream) error {
	first, err := stream.Recv()
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := checkConsole(first); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	out, typed := &consoleClient{stream: stream}, make(chan []byte)
	go func() {
		defer close(typed)
		if err := receiveTyped(ctx, stream, first.GetWrite(), typed); err != nil {
			cancel(err)
		}
	}()
	exit, err := s.vms.Console(ctx, first.GetVm(), vm.ConsoleRequest{
		Write: first.GetWrite(), Force: first.GetForce(), Replay: first.GetReplayBytes(),
	}, vm.ConsoleClient{Opened: out.opened, Output: out, Input: typed, Typed: out.typed, TakenOver: out.takenOver})
	if err != nil {
		return err
	}
	return out.send(&vmletv1.ConsoleResponse{Event: &vmletv1.ConsoleResponse_Ended{
		Ended: &vmletv1.ConsoleEnded{Reason: exit.Reason, ExitCode: exit.Code, Message: exit.Message},
	}})
}

func checkConsole(first *vmletv1.ConsoleRequest) error {
	replay := first.GetReplayBytes()
	switch {
	case len(first.GetInput()) > 0:
		return fmt.Errorf("input: the first message must hold none: %w", errdefs.ErrInvalidArgument)
	case first.GetForce() && !first.GetWrite():
		return fmt.Errorf("force: there is nothing to take over for who does not write: %w", errdefs.ErrInvalidArgument)
	case replay < 0 || replay > mostReplay:
		return fmt.Errorf("replay_bytes: %d is not from 0 to %d: %w", replay, mostReplay, errdefs.ErrInvalidArgument)
	}
	return checkVM(first.GetVm())
}

// receiveTyped hands on what a client types until it closes its side or goes. Where that is at the same time as the end of the call, nobody
// hears of it.
func receiveTyped(ctx context.Context, stream consoleStream, writes bool, typed chan<- []byte) error {
	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		input := msg.GetInput()
		switch {
		case msg.GetVm() != "" || msg.GetWrite() || msg.GetForce() || msg.GetReplayBytes() != 0:
			return fmt.Errorf("every message but the first must hold input alone: %w", errdefs.ErrInvalidArgument)
		case !writes:
			return fmt.Errorf("input: the first message did not ask to write: %w", errdefs.ErrInvalidArgument)
		case len(input) > mostInput:
			return fmt.Errorf("input: it has %d bytes, at most %d are taken in one message: %w", len(input), mostInput, errdefs.ErrInvalidArgument)
		}
		select {
		case typed <- input:
		case <-ctx.Done():
			return nil
		}
	}
}

// consoleClient tells a client what happens. gRPC allows one Send at a time.
type consoleClient struct {
	mu     sync.Mutex
	stream consoleStream
}

func (c *consoleClient) send(m *vmletv1.ConsoleResponse) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stream.Send(m)
}

func (c *consoleClient) opened(sandboxID string) error {
	return c.send(&vmletv1.ConsoleResponse{Event: &vmletv1.ConsoleResponse_Opened{Opened: &vmletv1.ConsoleOpened{PodSandboxId: sandboxID}}})
}

// Write is io.Writer's.
func (c *consoleClient) Write(p []byte) (int, error) {
	if err := c.send(&vmletv1.ConsoleResponse{Event: &vmletv1.ConsoleResponse_Output{Output: p}}); err != nil {
		return 0, err
	}
	return len(p), nil
}

// A client that has gone ends the call: nobody else needs to know.

func (c *consoleClient) takenOver() {
	_ = c.send(&vmletv1.ConsoleResponse{Event: &vmletv1.ConsoleResponse_TakenOver{TakenOver: &vmletv1.ConsoleTakenOver{}}}) //nolint:errcheck // as above
}

func (c *consoleClient) typed() {
	_ = c.send(&vmletv1.ConsoleResponse{Event: &vmletv1.ConsoleResponse_Typed{Typed: &vmletv1.ConsoleTyped{}}}) //nolint:errcheck // as above
}
