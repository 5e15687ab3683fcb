// SPDX-License-Identifier: Apache-2.0

package agentlinktest

import (
	"errors"
	"net"
	"sync"
)

// Socket is what QEMU has for a port: who connects to it is the host of the port that is
// plugged then.
type Socket struct {
	listener net.Listener
	done     chan struct{}

	mu   sync.Mutex
	port *Port
}

// Listen makes a socket at path, with a port plugged.
func Listen(path string, port *Port) (*Socket, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	s := &Socket{listener: l, done: make(chan struct{}), port: port}
	go s.run()
	return s, nil
}

func (s *Socket) run() {
	defer close(s.done)
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		//nolint:errcheck // a port that was closed meanwhile closes the connection
		_ = s.Port().Attach(conn)
	}
}

// Plug puts a port in the place of the one before.
func (s *Socket) Plug(port *Port) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.port = port
}

// Port returns the port that is plugged.
func (s *Socket) Port() *Port {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.port
}

// Close closes the socket and the port.
func (s *Socket) Close() error {
	err := errors.Join(s.listener.Close(), s.Port().Close())
	<-s.done
	return err
}
