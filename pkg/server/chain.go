// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/rand"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/vmlet/vmlet/pkg/log"
)

// chain is what every call goes through, unary or stream, from the outside in: it gets
// an ID and a logger, is counted and logged, has its error turned into a status, its
// panic caught, and is refused while the gate is closed.
type chain struct {
	logger   *zap.Logger
	calls    *metrics
	gate     *Gate
	ungated  []string
	describe func(req any) []zap.Field

	inFlight atomic.Int64
	draining chan struct{}
	once     sync.Once
}

func newChain(cfg Config, calls *metrics) *chain {
	return &chain{
		logger: cfg.Logger, calls: calls, gate: cfg.Gate, ungated: cfg.Ungated, describe: cfg.Describe,
		draining: make(chan struct{}),
	}
}

// endStreams ends the context of every stream: they have no end of their own that a
// drain could wait for. Idempotent.
func (c *chain) endStreams() { c.once.Do(func() { close(c.draining) }) }

// handler is what is left of a call inside of the chain.
type handler func(ctx context.Context) (any, error)

// unary is the grpc.UnaryServerInterceptor.
func (c *chain) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	return c.call(ctx, info.FullMethod, req, func(ctx context.Context) (any, error) { return next(ctx, req) })
}

// stream is the grpc.StreamServerInterceptor. Only what a stream began with is logged.
func (c *chain) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	_, err := c.call(ss.Context(), info.FullMethod, nil, func(ctx context.Context) (any, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			select {
			case <-c.draining:
				cancel()
			case <-ctx.Done():
			}
		}()
		err := next(srv, &streamWithContext{ServerStream: ss, ctx: ctx})
		if ctx.Err() != nil && ss.Context().Err() == nil {
			return nil, errdefs.ErrUnavailable.WithMessage("vmlet is shutting down")
		}
		return nil, err
	})
	return err
}

// streamWithContext is a stream whose context was exchanged.
type streamWithContext struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // a stream's context is the stream's
}

// Context is the one that the drain can end.
func (s *streamWithContext) Context() context.Context { return s.ctx }

func (c *chain) call(ctx context.Context, method string, req any, next handler) (any, error) {
	c.inFlight.Add(1)
	defer c.inFlight.Add(-1)
	started := time.Now()
	request := rand.Text()[:10]
	ctx = log.With(log.Into(ctx, c.logger), append(idFields(req), zap.String("request", request))...)
	if fields := c.describe(req); len(fields) > 0 {
		ctx = log.With(ctx, fields...)
	}
	resp, err := c.guard(ctx, method, request, next)
	err = toStatus(err)
	c.report(ctx, method, outcome{req: req, resp: resp, err: err, took: time.Since(started)})
	return resp, err
}

// guard refuses the call while the gate is closed, and catches its panic. The client
// learns that there was one and where to look; the rest is in the log.
func (c *chain) guard(ctx context.Context, method, request string, next handler) (resp any, err error) {
	if err := c.admit(method); err != nil {
		return nil, err
	}
	defer func() {
		if cause := recover(); cause != nil {
			log.From(ctx).Error("panic", zap.String("method", method), zap.Any("panic", cause), zap.ByteString("stack", debug.Stack()))
			resp, err = nil, errdefs.ErrInternal.WithMessage("internal error: see request "+request+" in the log of vmlet")
		}
	}()
	return next(ctx)
}

func (c *chain) admit(method string) error {
	if strings.HasPrefix(method, "/grpc.") || slices.Contains(c.ungated, method) {
		return nil
	}
	return c.gate.Err()
}

// outcome is how a call ended.
type outcome struct {
	req, resp any
	err       error // a gRPC status
	took      time.Duration
}

func (c *chain) report(ctx context.Context, method string, o outcome) {
	name, code := strings.TrimPrefix(method, "/"), status.Code(o.err)
	c.calls.observe(name, code, o.took)
	line := log.From(ctx).Check(level(name, code), "call")
	if line == nil {
		return
	}
	fields := []zap.Field{zap.String("method", name), zap.Stringer("code", code), zap.Duration("took", o.took)}
	fields = append(fields, callerFields(ctx)...)
	fields = append(fields, newIDFields(o.req, o.resp)...)
	if o.err != nil {
		fields = append(fields, zap.String("error", status.Convert(o.err).Message()))
	}
	line.Write(fields...)
}

// level says how loud a call is told: what changes something aloud, what only asks
// quietly (a kubelet asks several times a second), and faults of our own loudest.
func level(name string, code codes.Code) zapcore.Level {
	if code == codes.Unknown || code == codes.Internal || code == codes.DataLoss {
		return zapcore.ErrorLevel
	}
	if asks(name) {
		return zapcore.DebugLevel
	}
	return zapcore.InfoLevel
}

// asks tells by its name whether a method only asks. ExecSync counts: it is how probes
// ask, and what it changes is inside the guest.
func asks(name string) bool {
	if strings.HasPrefix(name, "grpc.") {
		return true
	}
	_, method, _ := strings.Cut(name, "/")
	for _, prefix := range []string{"List", "Get", "Stream", "Watch", "ImageFsInfo", "RuntimeConfig", "Version", "ExecSync"} {
		if strings.HasPrefix(method, prefix) {
			return true
		}
	}
	return strings.HasSuffix(method, "Status") || strings.HasSuffix(method, "Stats")
}
