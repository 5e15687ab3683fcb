// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc/peer"
)

// How many calls and streams one client may have under way where Config names no other number. A kubelet with 250 pods
// comes to some 1600 calls if every pod is worked on, killed and probed at once, and to a handful of streams.
const (
	DefaultCallsPerClient   = 4096
	DefaultStreamsPerClient = 1024
)

// share is what one kind of requests may take of the server.
type share struct {
	what, key string
	most      int
}

// limits bound what one client has under way, so that none takes the server from the others. Calls and streams count
// apart: a client that watches a lot can still ask.
type limits struct {
	calls, streams share
	// long are methods that are streams but by their form: they take as long as they take.
	long []string

	mu    sync.Mutex
	taken map[slot]int
}

// slot is one client's part of a share.
type slot struct {
	client client
	what   string
}

// client is who counts as one: a process with all its connections or, where the kernel does not say which process that
// is (it may be in a PID namespace that we do not see into), a connection.
type client struct {
	uid        uint32
	pid        int32
	connection uint64
}

func newLimits(cfg Config) *limits {
	return &limits{
		calls:   share{"calls", "listen.callsPerClient", cfg.CallsPerClient},
		streams: share{"streams", "listen.streamsPerClient", cfg.StreamsPerClient},
		long:    cfg.Long, taken: map[slot]int{},
	}
}

// enter takes a place for a request, until leave is called. ResourceExhausted, at once, where its client has none left.
func (l *limits) enter(ctx context.Context, method string, stream bool) (leave func(), err error) {
	of := l.calls
	if stream || slices.Contains(l.long, method) {
		of = l.streams
	}
	s := slot{clientOf(ctx), of.what}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.taken[s] >= of.most {
		return nil, fmt.Errorf("this client (%s) has %d %s under way, which is as many as %s allows: %w",
			s.client, l.taken[s], of.what, of.key, errdefs.ErrResourceExhausted)
	}
	l.taken[s]++
	return func() { l.leave(s) }, nil
}

func (l *limits) leave(s slot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.taken[s]--; l.taken[s] == 0 {
		delete(l.taken, s)
	}
}

func clientOf(ctx context.Context) client {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return client{}
	}
	c, ok := p.AuthInfo.(caller)
	if !ok {
		return client{}
	}
	if c.pid == 0 {
		return client{uid: c.uid, connection: c.connection}
	}
	return client{uid: c.uid, pid: c.pid}
}

// String names a client for people.
func (c client) String() string {
	if c.pid == 0 {
		return fmt.Sprintf("a connection of user %d", c.uid)
	}
	return fmt.Sprintf("process %d of user %d", c.pid, c.uid)
}
