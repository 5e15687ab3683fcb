// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"
)

// app is one run of the program: what it reads and writes, and the flags that all commands
// have.
type app struct {
	in       io.Reader
	out, err io.Writer
	env      func(string) string
	now      func() time.Time
	// poll is how often a container's state is asked for by who waits for its end: the
	// CRI's GetContainerEvents would tell it, but vmlet does not serve that.
	poll time.Duration

	address string
	timeout time.Duration // 0 for none
	output  format

	understood bool // the command line is right, as far as that can be told without doing it
}

// run carries out the command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.rootCommand() //nolint:contextcheck // cobra hands the context to the commands
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.understood {
		err = usageError{cmd.CommandPath(), err}
	}
	return a.exitCode(err)
}

// work is what a command does once it is connected.
type work func(ctx context.Context, c *client, args []string) error

// connected makes a work what cobra runs: within --timeout, on a connection that is closed
// in the end.
func (a *app) connected(do work) func(*cobra.Command, []string) error {
	return a.connectedWithin(0, do)
}

// connectedWithin is connected for commands whose timeout is first of all somebody else's:
// they get some more to hear of it.
func (a *app) connectedWithin(more time.Duration, do work) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) (err error) {
		ctx := cmd.Context()
		if a.timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, a.timeout+more)
			defer cancel()
		}
		c, err := dial(a.address)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.conn.Close()) }()
		return do(ctx, c, args)
	}
}
