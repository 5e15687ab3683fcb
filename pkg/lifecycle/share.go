// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/log"
)

// workTimeout bounds a use case that no longer has a caller to bound it. It is above
// kubelet's own two minutes, so that kubelet's retry finds the work or its result.
const workTimeout = 4 * time.Minute

// share runs fn for key on a context that outlives the caller: creations are slow, a
// caller's deadline is not, and work that is half done is worse than work that is
// done late. A second call with the same key waits for the first one's result.
func (s *Service) share(ctx context.Context, key string, fn func(context.Context) (string, error)) (string, error) {
	ch := s.flights.DoChan(key, func() (any, error) {
		if !s.work.begin() {
			return "", fmt.Errorf("%s: %w", key, errClosed)
		}
		defer s.work.done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), workTimeout)
		defer cancel()
		return caught(ctx, key, fn)
	})
	select {
	case r := <-ch:
		id, _ := r.Val.(string) //nolint:errcheck // nil beside an error
		return id, r.Err
	case <-ctx.Done():
		return "", fmt.Errorf("%s goes on without its caller: %w", key, ctx.Err())
	}
}

// errClosed is for what comes too late.
var errClosed = fmt.Errorf("vmlet is shutting down: %w", errdefs.ErrUnavailable)

// caught runs fn and makes an error of its panic. The work is on a goroutine of its own,
// where nobody else could: one bad request must not end the daemon, again and again.
func caught(ctx context.Context, key string, fn func(context.Context) (string, error)) (id string, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			log.From(ctx).Error("panic", zap.String("work", key), zap.Any("panic", cause), zap.ByteString("stack", debug.Stack()))
			id, err = "", fmt.Errorf("%s: a defect of vmlet, see its log: %w", key, errdefs.ErrInternal)
		}
	}()
	return fn(ctx)
}

// shareErr is share for work that has no result but its error.
func (s *Service) shareErr(ctx context.Context, key string, fn func(context.Context) error) error {
	_, err := s.share(ctx, key, func(ctx context.Context) (string, error) { return "", fn(ctx) })
	return err
}

// observed runs fn and tells the metrics how long it took and how it ended.
func (s *Service) observed(operation string, fn func() error) error {
	begin := time.Now()
	err := fn()
	s.deps.Observe(operation, time.Since(begin), err)
	return err
}
