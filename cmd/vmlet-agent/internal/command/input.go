// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containerd/errdefs"
)

// input is a command's standard input, which attached clients share.
type input struct {
	file *os.File
	tty  bool
	once bool
	// turn is held while one of them writes, or closes.
	turn   chan struct{}
	closed chan struct{}
}

func newInput(file *os.File, tty, once bool) *input {
	return &input{file: file, tty: tty, once: once, turn: make(chan struct{}, 1), closed: make(chan struct{})}
}

// write gives the command input. It waits for as long as the command reads none, or ctx ends.
func (in *input) write(ctx context.Context, b []byte) error {
	select {
	case in.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-in.turn }()
	if in.isClosed() {
		return os.ErrClosed
	}
	stop := context.AfterFunc(ctx, func() {
		_ = in.file.SetWriteDeadline(time.Unix(1, 0)) //nolint:errcheck // on a closed file nobody waits
	})
	_, err := in.file.Write(b)
	if !stop() {
		err = errors.Join(err, in.file.SetWriteDeadline(time.Time{}), ctx.Err())
	}
	return err
}

// left is called when an attached client has gone.
func (in *input) left() {
	if in.once {
		in.close()
	}
}

// close ends the input. A terminal has none that could end: its other end is the output.
func (in *input) close() {
	in.turn <- struct{}{}
	defer func() { <-in.turn }()
	if in.isClosed() {
		return
	}
	close(in.closed)
	if !in.tty {
		_ = in.file.Close() //nolint:errcheck // nothing is lost that the command would have read
	}
}

func (in *input) isClosed() bool {
	select {
	case <-in.closed:
		return true
	default:
		return false
	}
}

// Attachment gives a command input, for one client.
type Attachment struct {
	c *command
}

// Attach begins to give a command input. NotFound if it does not run.
func (r *Runner) Attach(id string) (*Attachment, error) {
	c, err := r.find(id)
	switch {
	case err != nil:
		return nil, err
	case c.proc == nil:
		return nil, notFound(id)
	}
	return &Attachment{c}, nil
}

// Done is closed when the command has ended.
func (a *Attachment) Done() <-chan struct{} { return a.c.done }

// Write gives the command input; a command without an input lets it fall.
func (a *Attachment) Write(ctx context.Context, b []byte) error {
	if a.c.input == nil {
		return nil
	}
	return a.c.input.write(ctx, b)
}

// Resize sets the size of the command's terminal, if it has one.
func (a *Attachment) Resize(width, height uint32) error {
	if err := a.c.proc.Resize(width, height); err != nil && !errors.Is(err, os.ErrInvalid) {
		return fmt.Errorf("resize: %w: %w", err, errdefs.ErrUnavailable)
	}
	return nil
}

// Close ends the attachment, and the command's input if it is for one client only.
func (a *Attachment) Close() {
	if a.c.input != nil {
		a.c.input.left()
	}
}
