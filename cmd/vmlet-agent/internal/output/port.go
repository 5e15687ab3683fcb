// SPDX-License-Identifier: Apache-2.0

// Package output sends what the container's command writes to the port that QEMU keeps a
// file of: whole lines, each a record (pkg/agentlink/record).
package output

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/agentlink/record"
)

// Port takes records. A Write returns when QEMU has the bytes: what is written is not lost
// with the guest. For concurrent use.
type Port struct {
	mu   sync.Mutex
	file *os.File
	torn bool
}

// Open opens the port, which nobody else can then. os.ErrNotExist if the machine has none.
func Open(path string) (*Port, error) {
	// A plain descriptor: writes to the port take turns anyway, and waiting by poll would
	// cost two more system calls for each.
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the output port: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	// The zero ends what an agent before may have left unfinished.
	return &Port{file: os.NewFile(uintptr(fd), path), torn: true}, nil
}

// write writes whole records. After one that failed the next begins with a zero, so that
// only the unfinished record is lost.
func (p *Port) write(records []byte) error {
	if len(records) == 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.torn {
		if _, err := p.file.Write([]byte{0}); err != nil {
			return err
		}
	}
	_, err := p.file.Write(records)
	p.torn = err != nil
	return err
}

// Close closes the port.
func (p *Port) Close() error { return p.file.Close() }

// Source is a stream of output, such as process.Output.
type Source interface {
	io.Reader
	// SetReadDeadline bounds how long a read waits: it fails with os.ErrDeadlineExceeded then.
	SetReadDeadline(t time.Time) error
}

// readSize is what a pipe holds.
const readSize = 64 << 10

// Copy copies a stream to the port up to its end. stream is record.Stderr, or 0.
func (p *Port) Copy(src Source, stream record.Flags) error {
	l := lines{stream: stream, now: time.Now}
	buf := make([]byte, readSize)
	for {
		if err := src.SetReadDeadline(l.due); err != nil {
			return err
		}
		n, err := src.Read(buf)
		l.add(buf[:n])
		late := errors.Is(err, os.ErrDeadlineExceeded)
		switch {
		case late:
			l.flush()
		case err != nil:
			l.end()
		}
		if werr := p.write(l.take()); werr != nil {
			return fmt.Errorf("write output: %w", werr)
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !late:
			return fmt.Errorf("read output: %w", err)
		}
	}
}
