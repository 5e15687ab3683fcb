// SPDX-License-Identifier: Apache-2.0

package qga

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
)

func TestShutdown(t *testing.T) {
	hang := func(ctx context.Context) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	}
	fail := func(err error) func(context.Context) (string, error) {
		return func(context.Context) (string, error) { return "", err }
	}
	for name, tc := range map[string]struct {
		ping, shutdown func(context.Context) (string, error)
		class          func(error) bool // nil for success
	}{
		"the agent obeys silently":       {nil, hang, nil},
		"an agent says yes":              {nil, func(context.Context) (string, error) { return `{"return":{}}`, nil }, nil},
		"the guest is off at once":       {nil, fail(fmt.Errorf("not active: %w", errdefs.ErrFailedPrecondition)), nil},
		"the domain is gone at once":     {nil, fail(fmt.Errorf("no domain: %w", errdefs.ErrNotFound)), nil},
		"the agent goes with the guest":  {nil, fail(fmt.Errorf("disappeared: %w", errdefs.ErrUnavailable)), nil},
		"the agent may not":              {nil, fail(errors.New("The command guest-shutdown has been disabled for this instance")), errdefs.IsFailedPrecondition},
		"the agent refuses in its reply": {nil, func(context.Context) (string, error) { return `{"error":{"class":"GenericError","desc":"no"}}`, nil }, errdefs.IsUnknown},
		"no agent":                       {fail(fmt.Errorf("not connected: %w", errdefs.ErrUnavailable)), nil, errdefs.IsUnavailable},
		"an agent that hangs":            {hang, nil, errdefs.IsUnavailable},
		"no domain":                      {fail(fmt.Errorf("no domain: %w", errdefs.ErrNotFound)), nil, errdefs.IsNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := New(&canned{answer: func(ctx context.Context, _, execute string) (string, error) {
					switch {
					case execute == "guest-shutdown" && tc.shutdown != nil:
						return tc.shutdown(ctx)
					case execute == "guest-ping" && tc.ping != nil:
						return tc.ping(ctx)
					case execute == "guest-ping":
						return `{"return":{}}`, nil
					}
					t.Errorf("the agent was asked for %s", execute)
					return "", nil
				}})
				began := time.Now()
				err := a.Shutdown(t.Context(), "a")
				if tc.class == nil && err != nil || tc.class != nil && !tc.class(err) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(began); took > probeTimeout+shutdownTimeout {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

func TestShutdownEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(&canned{answer: func(ctx context.Context, _, execute string) (string, error) {
			if execute == "guest-ping" {
				return `{"return":{}}`, nil
			}
			<-ctx.Done()
			return "", ctx.Err()
		}})
		ctx, cancel := context.WithTimeout(t.Context(), shutdownTimeout/2)
		defer cancel()
		if err := a.Shutdown(ctx, "a"); !errdefs.IsDeadlineExceeded(err) {
			t.Errorf("got %v", err)
		}
	})
}
