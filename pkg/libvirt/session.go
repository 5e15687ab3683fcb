// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"fmt"
	"sync"

	virt "libvirt.org/go/libvirt"
)

// A libvirtd that hangs answers no keepalive: a connection to it counts as lost after
// keepaliveInterval * (keepaliveCount + 1).
const (
	keepaliveInterval = 5 // seconds
	keepaliveCount    = 3
)

// session is one connection from its dial to its loss. It is closed by whoever leaves it
// last, since libvirt frees it under calls that are still in it. (Counting by
// virConnectRef would do for libvirt, but the Go binding then races with itself.)
type session struct {
	*virt.Connect
	// lost gets libvirt's reason when the connection breaks.
	lost chan virt.ConnectCloseReason
	// handles go with it.
	handles handles

	mu            sync.Mutex
	holders       int
	subscriptions []int
}

// openSession dials, and blocks for as long as libvirtd does. The caller holds it.
func openSession(uri string, setUp func(*session) error) (*session, error) {
	connect, err := virt.NewConnect(uri)
	if err != nil {
		return nil, classify(err)
	}
	s := &session{Connect: connect, lost: make(chan virt.ConnectCloseReason, 1), holders: 1}
	if err := s.prepare(setUp); err != nil {
		s.unsubscribe() // from what it has come to
		s.leave()
		return nil, classify(err)
	}
	return s, nil
}

func (s *session) prepare(setUp func(*session) error) error {
	err := s.RegisterCloseCallback(func(_ *virt.Connect, reason virt.ConnectCloseReason) {
		select {
		case s.lost <- reason:
		default:
		}
	})
	if err != nil {
		return fmt.Errorf("listen for the loss of the connection: %w", err)
	}
	// A driver that runs in this process (test:///) has none and needs none.
	if err := s.SetKeepAlive(keepaliveInterval, keepaliveCount); err != nil && !hasCode(err, virt.ERR_NO_SUPPORT) {
		return fmt.Errorf("keep the connection alive: %w", err)
	}
	return setUp(s)
}

// enter must be paired with leave. The caller knows that someone else holds the session.
func (s *session) enter() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holders++
}

// unsubscribe ends the events of the session, whoever still holds it; each keeps the connection. Whoever opened it calls it, once, before it leaves. For errors see leave.
func (s *session) unsubscribe() {
	for _, id := range s.subscriptions {
		_ = s.DomainEventDeregister(id) //nolint:errcheck // see above
	}
}

// leave closes the connection with its last holder. Errors of that are those of a
// connection that is broken, which is mostly why it is closed; libvirt frees its side of
// it all the same.
func (s *session) leave() {
	s.mu.Lock()
	s.holders--
	last := s.holders == 0
	s.mu.Unlock()
	if !last {
		return
	}
	s.handles.dropAll()
	_ = s.UnregisterCloseCallback() //nolint:errcheck // see above
	_, _ = s.Close()                //nolint:errcheck // see above
}
