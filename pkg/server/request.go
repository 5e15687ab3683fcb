// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"sync"

	"google.golang.org/grpc"

	"github.com/vmlet/vmlet/pkg/log"
)

// request is a call, unary or stream, as it is logged.
type request struct {
	method string
	stream bool
	// id is random.
	id string

	mu sync.Mutex
	// first is the message of a unary call, or the first that has come on a stream, nil before.
	first any
}

func (r *request) message() any {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.first
}

// came keeps a message if it is the first.
func (r *request) came(message any) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.first != nil {
		return false
	}
	r.first = message
	return true
}

// loggedStream is a stream whose context the drain can end, and whose first message says what it is about.
type loggedStream struct {
	grpc.ServerStream
	chain *chain
	req   *request

	mu  sync.Mutex
	ctx context.Context //nolint:containedctx // a stream's context is the stream's
}

// Context has the stream's logger, which knows of the first message once that has come.
func (s *loggedStream) Context() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ctx
}

// RecvMsg looks at the first message that comes.
func (s *loggedStream) RecvMsg(message any) error {
	err := s.ServerStream.RecvMsg(message)
	if err == nil && s.req.came(message) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ctx = log.With(s.ctx, s.chain.fields(message)...)
	}
	return err
}
