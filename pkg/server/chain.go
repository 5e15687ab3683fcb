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
// panic caught, and is refused while the gate is closed or its client has too much under
// way.
type chain struct {
	logger   *zap.Logger
	calls    *metrics
	gate     *Gate
	ungated  []string
	describe func(req any) []zap.Field
	limits   *limits

	inFlight atomic.Int64
	draining chan struct{}
	once     sync.Once
}

func newChain(cfg Config, calls *metrics) *chain {
	return &chain{
		logger: cfg.Logger, calls: calls, gate: cfg.Gate, ungated: cfg.Ungated, describe: cfg.Describe,
		limits: newLimits(cfg), draining: make(chan struct{}),
	}
}

// endStreams ends the context of every stream: they have no end of their own that a
// drain could wait for. Idempotent.
func (c *chain) endStreams() { c.once.Do(func() { close(c.draining) }) }

// handler is what is left of a call inside of the chain.
type handler func(ctx context.Context) (any, error)

// unary is the grpc.UnaryServerInterceptor.
func (c *chain) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	return c.call(ctx, &request{method: info.FullMethod, first: req}, func(ctx context.Context) (any, error) { return next(ctx, req) })
}

// stream is the grpc.StreamServerInterceptor. Of what comes on it the first message is logged, as the request.
func (c *chain) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	req := &request{method: info.FullMethod, stream: true}
	_, err := c.call(ss.Context(), req, func(ctx context.Context) (any, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			select {
			case <-c.draining:
				cancel()
			case <-ctx.Done():
			}
		}()
		err := next(srv, &loggedStream{ServerStream: ss, chain: c, req: req, ctx: ctx})
		if ctx.Err() != nil && ss.Context().Err() == nil {
			return nil, errdefs.ErrUnavailable.WithMessage("vmlet is shutting down")
		}
		return nil, err
	})
	return err
}

func (c *chain) call(ctx context.Context, req *request, next handler) (any, error) {
	c.inFlight.Add(1)
	defer c.inFlight.Add(-1)
	started := time.Now()
	req.id = rand.Text()[:10]
	ctx = log.With(log.Into(ctx, c.logger), zap.String("request", req.id))
	if !req.stream {
		ctx = log.With(ctx, c.fields(req.first)...)
	}
	resp, err := c.guard(ctx, req, next)
	err = toStatus(err)
	if req.stream { // its first message came later than ctx
		ctx = log.With(ctx, c.fields(req.message())...)
	}
	c.report(ctx, req, outcome{resp: resp, err: err, took: time.Since(started)})
	return resp, err
}

// fields are what is logged of a message.
func (c *chain) fields(message any) []zap.Field {
	return append(idFields(message), c.describe(message)...)
}

// guard refuses the call while the gate is closed, and catches its panic. The client
// learns that there was one and where to look; the rest is in the log.
func (c *chain) guard(ctx context.Context, req *request, next handler) (resp any, err error) {
	leave, err := c.limits.enter(ctx, req.method, req.stream)
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := c.admit(req.method); err != nil {
		return nil, err
	}
	defer func() {
		if cause := recover(); cause != nil {
			log.From(ctx).Error("panic", zap.String("method", req.method), zap.Any("panic", cause), zap.ByteString("stack", debug.Stack()))
			resp, err = nil, errdefs.ErrInternal.WithMessage("internal error: see request "+req.id+" in the log of vmlet")
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
	resp any
	err  error // a gRPC status
	took time.Duration
}

func (c *chain) report(ctx context.Context, req *request, o outcome) {
	name, code := strings.TrimPrefix(req.method, "/"), status.Code(o.err)
	c.calls.observe(name, code, o.took)
	line := log.From(ctx).Check(level(name, code), "call")
	if line == nil {
		return
	}
	fields := []zap.Field{zap.String("method", name), zap.Stringer("code", code), zap.Duration("took", o.took)}
	fields = append(fields, callerFields(ctx)...)
	fields = append(fields, newIDFields(req.message(), o.resp)...)
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
	for _, prefix := range []string{"List", "Get", "Stream", "Watch", "Capabilities", "ImageFsInfo", "RuntimeConfig", "Version", "ExecSync"} {
		if strings.HasPrefix(method, prefix) {
			return true
		}
	}
	return strings.HasSuffix(method, "Status") || strings.HasSuffix(method, "Stats")
}
