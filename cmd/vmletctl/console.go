// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

const (
	// detachKey is Ctrl-], as of telnet and virsh; interruptKey is Ctrl-C.
	detachKey    = 0x1d
	interruptKey = 0x03
	// farewell is how long what was typed last may take to be passed on, when its user leaves: a guest may not read.
	farewell = 2 * time.Second
)

type consoleStream = grpc.BidiStreamingClient[vmletv1.ConsoleRequest, vmletv1.ConsoleResponse]

// consoleOptions are the flags of the command.
type consoleOptions struct {
	readOnly, force bool
	recent          int64
}

func (a *app) consoleCommand() *cobra.Command {
	var o consoleOptions
	cmd := &cobra.Command{
		Use:   "console POD",
		Short: "Watch a VM's serial console and type into it",
		Long: `Connects the terminal to the serial console of a VM, until Ctrl-] or the end of the VM. It
stays connected through reboots. One types at a time, any number watch. Without a terminal
its input is typed, and its end ends nothing.

The console has no size of its own: tell the guest that of the window, by "stty rows 50
cols 120".`,
		Example: `  vmletctl console web
  vmletctl console --read-only web
  echo reboot | vmletctl console web   # to where somebody has logged in`,
		Args: cobra.ExactArgs(1),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			if o.readOnly && o.force {
				return usageError{"vmletctl console", errors.New("--force is to type, which --read-only does not")}
			}
			t, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			return a.console(ctx, c, t, o)
		}),
	}
	cmd.Flags().BoolVar(&o.readOnly, "read-only", false, "watch, and type nothing")
	cmd.Flags().BoolVar(&o.force, "force", false, "take over from who types now, who goes on watching")
	cmd.Flags().Int64Var(&o.recent, "recent", 4096, "begin with so many `BYTES` of what it said last, at most 1 MiB")
	return cmd
}

// console returns when the user has left or the VM ended, or with what went wrong. The terminal is then as it was.
func (a *app) console(ctx context.Context, c *client, t target, o consoleOptions) (err error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGQUIT) // main has the others
	defer stop()
	stream, err := c.vms.Console(ctx)
	if err != nil {
		return err
	}
	first := &vmletv1.ConsoleRequest{Vm: t.sandbox.GetId(), Write: !o.readOnly, Force: o.force, ReplayBytes: o.recent}
	if err := stream.Send(first); err != nil && !errors.Is(err, io.EOF) { // io.EOF: Recv says why
		return err
	}
	if _, err := stream.Recv(); err != nil { // before it the terminal is left alone
		return err
	}
	w, err := a.openWindow()
	if err != nil {
		return err
	}
	s := &consoleSession{a: a, stream: stream, window: w, name: t.String(), readOnly: o.readOnly}
	end := s.run(ctx)
	if err := errors.Join(end.err, w.close()); err != nil {
		return err
	}
	said := end.said
	if w != nil {
		said = "[vmletctl: " + said + "]"
	}
	_, err = fmt.Fprintln(a.err, said)
	return err
}

// consoleEnd is what is to be said at the end, or what went wrong.
type consoleEnd struct {
	said string
	err  error
}

// consoleSession is a user at a console.
type consoleSession struct {
	a        *app
	stream   consoleStream
	window   *window // nil for none
	name     string
	readOnly bool
}

// tell says something of our own to the user of a terminal.
func (s *consoleSession) tell(format string, args ...any) {
	if s.window != nil {
		fmt.Fprintf(s.a.err, "[vmletctl: "+format+"]\r\n", args...)
	}
}

// run returns when the user has left, or ctx or the call has ended.
func (s *consoleSession) run(ctx context.Context) consoleEnd {
	s.tell("console of %s; Ctrl-] leaves it", s.name)
	left, typed, ended := make(chan struct{}, 1), make(chan struct{}), make(chan consoleEnd, 1)
	go func() {
		if s.send() {
			left <- struct{}{}
		}
	}()
	go func() {
		said, err := s.receive(typed)
		ended <- consoleEnd{said, err}
	}()
	select {
	case end := <-ended:
		return end
	case <-ctx.Done():
		return consoleEnd{err: errInterrupted}
	case <-left:
	}
	select { // nothing that was typed is lost with the connection
	case <-typed:
	case <-ended:
	case <-time.After(farewell):
	}
	return consoleEnd{said: "left " + s.name}
}

// send types, and tells when the user leaves: by the key, or with the terminal. Where there is none, the end of the input
// is only that. What ends the call meanwhile is told to receive.
func (s *consoleSession) send() (left bool) {
	if s.window == nil && s.readOnly {
		return false
	}
	for b := make([]byte, 32<<10); ; {
		n, readErr := s.a.in.Read(b)
		keys := b[:n]
		if s.window != nil {
			keys, left = s.heed(keys)
		}
		if len(keys) > 0 {
			if err := s.stream.Send(&vmletv1.ConsoleRequest{Input: keys}); err != nil {
				return false
			}
		}
		if readErr != nil || left {
			return s.stream.CloseSend() == nil && s.window != nil
		}
	}
}

// heed tells what of the keys is for the guest, and whether the user leaves.
func (s *consoleSession) heed(keys []byte) (forGuest []byte, left bool) {
	for i, key := range keys {
		if key == detachKey || s.readOnly && key == interruptKey {
			keys, left = keys[:i], true
			break
		}
	}
	if s.readOnly {
		return nil, left
	}
	return keys, left
}

// receive shows what the VM says, until it ends.
func (s *consoleSession) receive(typed chan<- struct{}) (said string, err error) {
	for {
		msg, err := s.stream.Recv()
		if errors.Is(err, io.EOF) {
			return "the console of " + s.name + " has ended", nil
		}
		if err != nil {
			return "", err
		}
		switch event := msg.GetEvent().(type) {
		case *vmletv1.ConsoleResponse_Output:
			if _, err := s.a.out.Write(event.Output); err != nil {
				return "", err
			}
		case *vmletv1.ConsoleResponse_TakenOver:
			fmt.Fprint(s.a.err, "\r\n")
			s.tell("somebody else types from now on; you watch")
		case *vmletv1.ConsoleResponse_Typed:
			close(typed)
		case *vmletv1.ConsoleResponse_Ended:
			return endOf(s.name, event.Ended), nil
		}
	}
}

// endOf is how a VM ended, in words.
func endOf(name string, e *vmletv1.ConsoleEnded) string {
	text := "the VM of " + name + " has ended"
	if e.GetReason() != "" {
		text += fmt.Sprintf(": %s, exit code %d", e.GetReason(), e.GetExitCode())
	}
	if e.GetMessage() != "" {
		text += ": " + e.GetMessage()
	}
	return text
}
