// SPDX-License-Identifier: Apache-2.0

// Package agentlinktest has a virtio-serial port for tests, without a guest.
package agentlinktest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// Port is a port as the guest has it: Read returns io.EOF and Write blocks while no host is
// connected, as with Linux's virtio_console. Dial is the host's side: one host at a time, as
// with QEMU's socket. What the guest was writing when a host left, the next host reads.
type Port struct {
	mu      sync.Mutex
	changed *sync.Cond
	host    net.Conn // the guest's end of it, nil while none is connected
	closed  bool
}

// NewPort returns a port that no host is connected to.
func NewPort() *Port {
	p := &Port{}
	p.changed = sync.NewCond(&p.mu)
	return p
}

// Dial connects a host, once the one before has left.
func (p *Port) Dial() (net.Conn, error) {
	guest, host, err := socketPair()
	if err != nil {
		return nil, err
	}
	if err := p.Attach(guest); err != nil {
		return nil, errors.Join(err, host.Close())
	}
	return host, nil
}

// Attach makes a connection the port's host, once the one before has left.
func (p *Port) Attach(host net.Conn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.host != nil && !p.closed {
		p.changed.Wait()
	}
	if p.closed {
		return errors.Join(net.ErrClosed, host.Close())
	}
	p.host = host
	p.changed.Broadcast()
	return nil
}

// HangUp ends the connection with the host, if there is one.
func (p *Port) HangUp() {
	p.mu.Lock()
	host := p.host
	p.mu.Unlock()
	if host != nil {
		p.left(host)
	}
}

// Read implements io.Reader.
func (p *Port) Read(b []byte) (int, error) {
	host, err := p.current(false)
	if err != nil {
		return 0, err
	}
	n, err := host.Read(b)
	if err != nil {
		p.left(host)
		return n, p.end()
	}
	return n, nil
}

// Write implements io.Writer.
func (p *Port) Write(b []byte) (int, error) {
	written := 0
	for written < len(b) {
		host, err := p.current(true)
		if err != nil {
			return written, err
		}
		n, err := host.Write(b[written:])
		written += n
		if err != nil {
			p.left(host)
		}
	}
	return written, nil
}

// Close closes the guest's side for good.
func (p *Port) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.changed.Broadcast()
	if p.host == nil {
		return nil
	}
	err := p.host.Close()
	p.host = nil
	return err
}

// current returns the host, waiting for one if told to.
func (p *Port) current(wait bool) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for wait && p.host == nil && !p.closed {
		p.changed.Wait()
	}
	switch {
	case p.closed:
		return nil, os.ErrClosed
	case p.host == nil:
		return nil, io.EOF
	}
	return p.host, nil
}

// left forgets a host that has gone.
func (p *Port) left(host net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.host == host {
		//nolint:errcheck // it has failed already
		_ = host.Close()
		p.host = nil
		p.changed.Broadcast()
	}
}

// end is how a read without a host ends.
func (p *Port) end() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return os.ErrClosed
	}
	return io.EOF
}

// socketPair returns the two ends of a connection with the kernel's buffers.
func socketPair() (a, b net.Conn, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	if a, err = fileConn(fds[0]); err != nil {
		return nil, nil, errors.Join(err, syscall.Close(fds[1]))
	}
	if b, err = fileConn(fds[1]); err != nil {
		return nil, nil, errors.Join(err, a.Close())
	}
	return a, b, nil
}

func fileConn(fd int) (conn net.Conn, err error) {
	f := os.NewFile(uintptr(fd), "port")
	defer func() { err = errors.Join(err, f.Close()) }()
	return net.FileConn(f)
}
