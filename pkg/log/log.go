// SPDX-License-Identifier: Apache-2.0

// Package log carries a structured logger in the context, so that a line written deep
// down names the request, sandbox and container that it belongs to without any of the
// functions in between knowing.
//
// Whoever starts work puts a logger in with Into (the server for each request, main
// for background loops); everybody below only asks for it with From.
package log

import (
	"context"

	"go.uber.org/zap"
)

type key struct{}

// nop is what a context without a logger answers: a library used without one is quiet.
var nop = zap.NewNop()

// Into returns a context that carries logger.
func Into(ctx context.Context, logger *zap.Logger) context.Context {
	return context.WithValue(ctx, key{}, logger)
}

// From returns the context's logger. A context that carries none gives one that
// writes nothing; the result is never nil.
func From(ctx context.Context) *zap.Logger {
	if logger, ok := ctx.Value(key{}).(*zap.Logger); ok {
		return logger
	}
	return nop
}

// With returns a context whose logger adds fields to every line. They are encoded when
// a line is written, so a request that logs nothing pays nothing for them.
func With(ctx context.Context, fields ...zap.Field) context.Context {
	return Into(ctx, From(ctx).WithLazy(fields...))
}
