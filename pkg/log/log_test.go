// SPDX-License-Identifier: Apache-2.0

package log_test

import (
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vmlet/vmlet/pkg/log"
)

func TestFieldsAddUpAlongTheContext(t *testing.T) {
	core, lines := observer.New(zap.DebugLevel)
	ctx := log.Into(t.Context(), zap.New(core))
	outer := log.With(ctx, zap.String("request", "r1"))
	inner := log.With(outer, zap.String("sandbox", "s1"))

	log.From(inner).Info("inner")
	log.From(outer).Info("outer")

	got := lines.All()
	if len(got) != 2 {
		t.Fatalf("wrote %d lines, want 2", len(got))
	}
	if m := got[0].ContextMap(); m["request"] != "r1" || m["sandbox"] != "s1" {
		t.Errorf("inner line has %v, want request r1 and sandbox s1", m)
	}
	if _, leaked := got[1].ContextMap()["sandbox"]; leaked {
		t.Error("a field added below shows in the context above")
	}
}

func TestAContextWithoutALoggerIsQuiet(t *testing.T) {
	ctx := log.With(t.Context(), zap.String("request", "r1"))
	log.From(ctx).Error("nobody listens") // must not panic
}
