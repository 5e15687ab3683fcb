// SPDX-License-Identifier: Apache-2.0

package vmagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/agentlink"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

const (
	// shortAnswer bounds the messages of calls whose answers are short.
	shortAnswer = 64 << 10
	// maxText bounds a guest's text in an error.
	maxText = 300
)

// Call opens a stream to the guest's agent, bound to ctx, and sends the request. While there
// is no session it waits for one until ctx ends. What it returns is the caller's to Close.
// Unavailable if the session ended in between: the agent has seen the request, or not.
func (a *Agents) Call(ctx context.Context, id string, req *agentv1.Request) (*agentlink.Stream, error) {
	g, err := a.guest(id)
	if err != nil {
		return nil, err
	}
	for {
		s, err := g.await(ctx)
		if err != nil {
			return nil, err
		}
		st, err := s.Open(ctx)
		if err != nil {
			if ctx.Err() != nil || !ended(s) {
				return nil, err
			}
			g.without(s)
			continue // nothing was sent
		}
		if err := st.Send(req); err != nil {
			return nil, errors.Join(err, st.Close())
		}
		return st, nil
	}
}

// open opens a call that may outlive ctx and ends with life, and receives its Reply.
func (a *Agents) open(ctx, life context.Context, id string, req *agentv1.Request) (*agentlink.Stream, error) {
	if _, err := a.Await(ctx, id); err != nil {
		return nil, err
	}
	bound, cancel := context.WithCancel(life)
	unbind := context.AfterFunc(ctx, cancel)
	st, err := a.Call(bound, id, req)
	if err != nil {
		return nil, instead(ctx, err)
	}
	if _, err = Answer(st); err != nil || !unbind() {
		return nil, errors.Join(instead(ctx, err), st.Close())
	}
	return st, nil
}

// instead is ctx's error if ctx has ended, else err.
func instead(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// ended tells whether a session is over.
func ended(s *agentlink.Session) bool {
	select {
	case <-s.Done():
		return true
	default:
		return false
	}
}

// Ask makes a call that has one answer. The agent's refusal has the class it gives.
func (a *Agents) Ask(ctx context.Context, id string, req *agentv1.Request) (*agentv1.Reply, error) {
	st, err := a.Call(ctx, id, req)
	if err != nil {
		return nil, err
	}
	st.Limit(shortAnswer)
	reply, err := Answer(st)
	if closeErr := st.Close(); err == nil {
		err = closeErr
	}
	return reply, err
}

// insist is Ask for a call that may be made twice: it is, when its session ends.
func (a *Agents) insist(ctx context.Context, id string, req *agentv1.Request) (*agentv1.Reply, error) {
	for pause := pauseFirst; ; pause = min(2*pause, pauseMost) {
		reply, err := a.Ask(ctx, id, req)
		if err == nil || !errors.Is(err, errGone) {
			return reply, err
		}
		if !sleep(ctx, pause) {
			return nil, fmt.Errorf("%w: %w", err, ctx.Err())
		}
	}
}

// errGone is a call whose answer never came.
var errGone = errors.New("vmlet-agent has gone in the midst of the call")

// Answer receives the Reply of a call and gives its error a class.
func Answer(st *agentlink.Stream) (*agentv1.Reply, error) {
	reply := &agentv1.Reply{}
	err := st.Receive(reply)
	switch {
	case errors.Is(err, io.EOF), errdefs.IsUnavailable(err):
		return nil, fmt.Errorf("%w (%s): %w", errGone, err.Error(), errdefs.ErrUnavailable)
	case errdefs.IsInvalidArgument(err):
		return nil, nonsense(err)
	case err != nil:
		return nil, err
	}
	if reply.GetError() != nil {
		return nil, refused(reply.GetError())
	}
	return reply, nil
}

// nonsense is the error for an answer that is not in the protocol.
func nonsense(cause error) error {
	return fmt.Errorf("vmlet-agent's answer makes no sense: %s: %w", agentlink.Printable(cause.Error(), maxText), errdefs.ErrInternal)
}

// classes are what the agent's errors mean here.
var classes = map[agentv1.Error_Class]error{
	agentv1.Error_UNKNOWN:             errdefs.ErrUnknown,
	agentv1.Error_INVALID_ARGUMENT:    errdefs.ErrInvalidArgument,
	agentv1.Error_NOT_FOUND:           errdefs.ErrNotFound,
	agentv1.Error_ALREADY_EXISTS:      errdefs.ErrAlreadyExists,
	agentv1.Error_FAILED_PRECONDITION: errdefs.ErrFailedPrecondition,
	agentv1.Error_UNAVAILABLE:         errdefs.ErrUnavailable,
	agentv1.Error_UNIMPLEMENTED:       errdefs.ErrNotImplemented,
	agentv1.Error_RESOURCE_EXHAUSTED:  errdefs.ErrResourceExhausted,
	agentv1.Error_PERMISSION_DENIED:   errdefs.ErrPermissionDenied,
}

func refused(e *agentv1.Error) error {
	class := classes[e.GetClass()]
	if class == nil {
		class = errdefs.ErrUnknown
	}
	said := strings.TrimSuffix(e.GetMessage(), ": "+class.Error())
	return fmt.Errorf("refused by vmlet-agent: %s: %w", agentlink.Printable(said, maxText), class)
}
