// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// SendInput implements lifecycle.ConsoleStreams. device is a terminal whose other side is
// QEMU. While somebody has it open QEMU sends the console's output there as well, and stops
// the guest when nobody reads it: so it is read, and dropped, since it comes out of the
// spool too. It returns when stdin's last read has: not before its client has gone.
func (cs *Consoles) SendInput(ctx context.Context, device string, stdin io.Reader) error {
	tty, err := openTerminal(device)
	if err != nil {
		return fmt.Errorf("open the console %s: %w", device, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = tty.Close() }) //nolint:errcheck // it only has to end
	defer stop()
	hungUp := make(chan struct{})
	go func() {
		defer close(hungUp)
		_, _ = io.Copy(io.Discard, tty) //nolint:errcheck // it ends when QEMU does, or we
	}()
	_, err = io.Copy(terminalWriter{tty}, stdin)
	if err == nil {
		select {
		case <-hungUp:
		case <-time.After(cs.limits.linger):
		}
	}
	_ = tty.Close() //nolint:errcheck // nothing more can be done for it
	<-hungUp
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, unix.EIO):
		return fmt.Errorf("the console %s is gone: %w", device, errdefs.ErrUnavailable)
	}
	return err
}

// terminalWriter hides what else a file can do: a terminal has no fast paths.
type terminalWriter struct{ io.Writer }

// openTerminal opens a terminal and has it pass all bytes as they are, and echo none.
func openTerminal(path string) (*os.File, error) {
	tty, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	raw, err := tty.SyscallConn()
	if err == nil {
		ctrlErr := raw.Control(func(fd uintptr) { err = makeRaw(int(fd)) })
		err = errors.Join(err, ctrlErr)
	}
	if err != nil {
		return nil, errors.Join(err, tty.Close())
	}
	return tty, nil
}

// makeRaw is cfmakeraw(3).
func makeRaw(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return fmt.Errorf("it is no terminal: %w", err)
	}
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}
