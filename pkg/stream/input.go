// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/vm"
)

// SendInput implements lifecycle.ConsoleStreams. It returns when stdin's last read has: not before its client has gone.
func (cs *Consoles) SendInput(ctx context.Context, device string, stdin io.Reader) error {
	in, err := cs.openInput(device)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, in.end)
	defer stop()
	_, err = io.Copy(in, stdin)
	if err == nil {
		select {
		case <-in.gone:
		case <-time.After(cs.limits.linger):
		}
	}
	in.end()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// OpenInput implements lifecycle.ConsoleStreams.
func (cs *Consoles) OpenInput(device string) (vm.ConsoleInput, error) {
	in, err := cs.openInput(device)
	if err != nil {
		return nil, err
	}
	return in, nil
}

// input is an open terminal whose other side is QEMU. While somebody has it open QEMU sends the console's output there as
// well, and stops the guest when nobody reads it: so it is read, and dropped, since it comes out of the spool too.
type input struct {
	cs     *Consoles
	device string
	tty    *os.File
	gone   chan struct{}
	closed sync.Once
}

func (cs *Consoles) openInput(device string) (*input, error) {
	tty, err := openTerminal(device)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EIO) {
		err = fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
	}
	if err != nil {
		return nil, fmt.Errorf("open the console %s: %w", device, err)
	}
	in := &input{cs: cs, device: device, tty: tty, gone: make(chan struct{})}
	go func() {
		defer close(in.gone)
		_, _ = io.Copy(io.Discard, tty) //nolint:errcheck // it ends when QEMU does, or we
	}()
	return in, nil
}

// Write implements vm.ConsoleInput.
func (in *input) Write(b []byte) (int, error) {
	n, err := in.tty.Write(b)
	if errors.Is(err, unix.EIO) {
		err = fmt.Errorf("the console %s is gone: %w", in.device, errdefs.ErrUnavailable)
	}
	return n, err
}

// Gone implements vm.ConsoleInput.
func (in *input) Gone() <-chan struct{} { return in.gone }

// Close implements vm.ConsoleInput. The terminal stays open for a while, in which nothing more goes in.
func (in *input) Close() {
	in.closed.Do(func() {
		_ = in.tty.SetWriteDeadline(time.Now()) //nolint:errcheck // one that blocks ends with the terminal, then
		in.cs.mu.Lock()
		defer in.cs.mu.Unlock()
		if in.cs.closed {
			_ = in.tty.Close() //nolint:errcheck // nothing more can be done for it
			return
		}
		in.cs.work.Go(func() {
			select {
			case <-in.gone:
			case <-time.After(in.cs.limits.linger):
			case <-in.cs.life.Done():
			}
			in.end()
		})
	})
}

// end closes the terminal, and returns when nobody reads it any more.
func (in *input) end() {
	_ = in.tty.Close() //nolint:errcheck // nothing more can be done for it
	<-in.gone
}

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
