// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// maxPassword is the most bytes of a password that vmlet takes.
const maxPassword = 1 << 10

func (a *app) guestPasswdCommand() *cobra.Command {
	var crypted bool
	cmd := &cobra.Command{
		Use:   "passwd POD USER",
		Short: "Set the password of a user of a guest",
		Long: `Sets the password of a user of a guest. It is asked for twice on a terminal, else it is the
first line of stdin. It is never an argument, which anybody could read.`,
		Example: `  vmletctl guest passwd web root
  openssl passwd -6 | vmletctl guest passwd web root --crypted`,
		Args: cobra.ExactArgs(2),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			t, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			password, err := a.readPassword(ctx, fmt.Sprintf("New password of %s in %s: ", args[1], t))
			if err != nil {
				return err
			}
			_, err = c.vms.SetGuestPassword(ctx, &vmletv1.SetGuestPasswordRequest{
				Vm: t.sandbox.GetId(), User: args[1], Password: password, Crypted: crypted,
			})
			return err
		}),
	}
	cmd.Flags().BoolVar(&crypted, "crypted", false, "it is a hash of crypt(3)'s, such as $6$...")
	return cmd
}

// readPassword takes a password from a terminal, where nobody sees it, or from the first line of what is no terminal.
func (a *app) readPassword(ctx context.Context, prompt string) (string, error) {
	in := bufio.NewReaderSize(a.in, 2*maxPassword)
	terminal, is := a.in.(*os.File)
	if !is || !isTerminal(terminal) {
		return awaitLine(ctx, in)
	}
	show, err := hide(ctx, int(terminal.Fd()))
	if err != nil {
		return "", err
	}
	defer show()
	var twice [2]string
	for i, ask := range []string{prompt, "Again: "} {
		fmt.Fprint(a.err, ask)
		twice[i], err = awaitLine(ctx, in)
		fmt.Fprintln(a.err) // the end of the line was not shown either
		if err != nil {
			return "", err
		}
	}
	if twice[0] != twice[1] {
		return "", errors.New("these were two passwords; nothing was changed")
	}
	return twice[0], nil
}

// awaitLine is passwordLine that ends with ctx: a terminal is read until somebody types.
func awaitLine(ctx context.Context, in *bufio.Reader) (string, error) {
	done := make(chan struct{})
	var typed string
	var failed error
	go func() {
		defer close(done)
		typed, failed = passwordLine(in)
	}()
	select {
	case <-done:
		return typed, failed
	case <-ctx.Done():
		return "", errInterrupted
	}
}

// passwordLine reads one line, which must not be empty.
func passwordLine(in *bufio.Reader) (string, error) {
	line, err := in.ReadSlice('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password: %w", err)
	}
	password := strings.TrimRight(string(line), "\r\n")
	if password == "" {
		return "", errors.New("the password is empty; nothing was changed")
	}
	return password, nil
}

// hide has a terminal not show what is typed, until show is called or ctx ends: who is interrupted wants it back.
func hide(ctx context.Context, fd int) (show func(), err error) {
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	hidden := *before
	hidden.Lflag &^= unix.ECHO
	hidden.Lflag |= unix.ICANON | unix.ISIG
	if err := unix.IoctlSetTermios(fd, unix.TCSETSF, &hidden); err != nil {
		return nil, err
	}
	restore := func() {
		//nolint:errcheck // it was a terminal a moment ago
		_ = unix.IoctlSetTermios(fd, unix.TCSETS, before)
	}
	stop := context.AfterFunc(ctx, restore)
	return func() { stop(); restore() }, nil
}
