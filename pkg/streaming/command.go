// SPDX-License-Identifier: Apache-2.0

package streaming

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Wanted are the streams that a client asked for. TTY and Stderr exclude each other.
type Wanted struct {
	Stdin, Stdout, Stderr, TTY bool
}

// Exec promises a command's streams in a container, and returns where the client gets them.
// The command begins when the client is there. ResourceExhausted if too many wait.
func (s *Server) Exec(containerID string, cmd []string, want Wanted) (string, error) {
	return s.promise("exec", func(w http.ResponseWriter, r *http.Request) {
		remotecommand.ServeExec(w, r, executor{s, want}, "", "", containerID, cmd, want.options(),
			s.cfg.IdleTimeout, headerTimeout, remotecommand.SupportedStreamingProtocols)
	})
}

// Attach promises the streams of what runs in a container, under the terms of Exec.
func (s *Server) Attach(containerID string, want Wanted) (string, error) {
	return s.promise("attach", func(w http.ResponseWriter, r *http.Request) {
		remotecommand.ServeAttach(w, r, executor{s, want}, "", "", containerID, want.options(),
			s.cfg.IdleTimeout, headerTimeout, remotecommand.SupportedStreamingProtocols)
	})
}

func (want Wanted) options() *remotecommand.Options {
	return &remotecommand.Options{Stdin: want.Stdin, Stdout: want.Stdout, Stderr: want.Stderr, TTY: want.TTY}
}

// executor is what the protocols call when a client's streams are open.
type executor struct {
	s    *Server
	want Wanted
}

// ExecInContainer implements remotecommand.Executor. A code other than 0 is a
// CodeExitError, the only error whose code reaches the client.
//
//nolint:revive // the library's arguments
func (e executor) ExecInContainer(
	ctx context.Context, _, _, id string, cmd []string, in io.Reader, out, errOut io.WriteCloser, tty bool,
	resize <-chan remotecommand.TerminalSize, _ time.Duration,
) error {
	return e.run(ctx, "exec", id, e.streams(ctx, in, out, errOut, resize), func(streams vm.Streams) error {
		code, err := e.s.svc.ExecStream(ctx, id, cmd, tty, streams)
		if err == nil && code != 0 {
			return utilexec.CodeExitError{Err: fmt.Errorf("command terminated with exit code %d", code), Code: int(code)}
		}
		return err
	})
}

// AttachContainer implements remotecommand.Attacher.
//
//nolint:revive // the library's arguments
func (e executor) AttachContainer(
	ctx context.Context, _, _, id string, in io.Reader, out, errOut io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize,
) error {
	return e.run(ctx, "attach", id, e.streams(ctx, in, out, errOut, resize), func(streams vm.Streams) error {
		return e.s.svc.Attach(ctx, id, streams)
	})
}

func (e executor) run(ctx context.Context, kind, id string, streams vm.Streams, do func(vm.Streams) error) error {
	began := time.Now()
	err := do(streams)
	e.s.ended(ctx, kind, id, began, err)
	// What comes now is how it ended: a client that does not read must not keep us.
	if c := connOf(ctx); c != nil {
		c.expire(e.s.farewell)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// streams are those that were asked for: the WebSocket protocol always has all of them.
func (e executor) streams(
	ctx context.Context, in io.Reader, out, errOut io.Writer, resize <-chan remotecommand.TerminalSize,
) (s vm.Streams) {
	if e.want.Stdin {
		s.Stdin = in
	}
	if e.want.Stdout {
		s.Stdout = out
	}
	if e.want.Stderr && !e.want.TTY {
		s.Stderr = errOut
	}
	if e.want.TTY && resize != nil {
		s.Resize = sizes(ctx, resize)
	}
	return s
}

// sizes are the protocol's terminal sizes in our words.
func sizes(ctx context.Context, from <-chan remotecommand.TerminalSize) <-chan vm.TerminalSize {
	to := make(chan vm.TerminalSize)
	go func() {
		defer close(to)
		for {
			select {
			case size, ok := <-from:
				if !ok {
					return
				}
				select {
				case to <- vm.TerminalSize{Width: size.Width, Height: size.Height}:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return to
}
