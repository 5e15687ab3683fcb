// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// instead says, for each RPC that is not implemented, what to use in its place. There is none now.
var instead = map[string]string{}

// callEmpty calls every RPC of the pinned API with an empty request, and returns the
// errors by name.
func callEmpty(t *testing.T, s *Server) map[string]error {
	t.Helper()
	answers := map[string]error{}
	for _, service := range []grpc.ServiceDesc{runtimeapi.RuntimeService_ServiceDesc, runtimeapi.ImageService_ServiceDesc} {
		for _, m := range service.Methods {
			_, answers[m.MethodName] = m.Handler(s, t.Context(), func(any) error { return nil }, nil)
		}
		for _, m := range service.Streams {
			answers[m.StreamName] = m.Handler(s, emptyStream{ctx: t.Context()})
		}
	}
	return answers
}

type emptyStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // a stream is its context's
}

func (s emptyStream) Context() context.Context   { return s.ctx }
func (emptyStream) RecvMsg(any) error            { return nil }
func (emptyStream) SendHeader(metadata.MD) error { return nil }

func TestEveryRPCIsImplementedOrSaysWhatToUseInstead(t *testing.T) {
	answers := callEmpty(t, newServer(t, newFake()))
	if len(answers) != 43 {
		t.Errorf("the pinned API has %d RPCs, 43 were known: look at the new ones", len(answers))
	}
	for rpc, err := range answers {
		hint, listed := instead[rpc]
		if _, generated := status.FromError(err); generated && err != nil {
			t.Errorf("%s: %v comes from the generated code: implement it or add it to the table", rpc, err)
		}
		if notImplemented := errors.Is(err, errdefs.ErrNotImplemented); notImplemented != listed {
			t.Errorf("%s: not implemented is %v, listed as such is %v", rpc, notImplemented, listed)
		}
		if listed && (hint == "" || !strings.Contains(err.Error(), rpc) || !strings.Contains(err.Error(), hint)) {
			t.Errorf("%s: %q does not name the RPC and what to do", rpc, err)
		}
		delete(answers, rpc)
	}
	for rpc := range instead {
		if _, ok := callEmpty(t, newServer(t, newFake()))[rpc]; !ok {
			t.Errorf("%s is listed and is no RPC", rpc)
		}
	}
}

func TestMethodsThatAreAlwaysServedExist(t *testing.T) {
	for _, full := range AlwaysServed() {
		name, ok := strings.CutPrefix(full, "/runtime.v1.RuntimeService/")
		if _, known := callEmpty(t, newServer(t, newFake()))[name]; !ok || !known {
			t.Errorf("%s is no method", full)
		}
	}
}
