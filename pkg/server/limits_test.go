// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// hold is a handler that keeps its callers until it is let go.
type hold struct{ entered, free chan struct{} }

func newHold() hold { return hold{make(chan struct{}, 64), make(chan struct{})} }

func (h hold) wait(ctx context.Context) error {
	h.entered <- struct{}{}
	select {
	case <-h.free:
	case <-ctx.Done():
	}
	return nil
}

// watching is a stub whose event streams stay open.
type watching struct {
	stub
	streams hold
}

func (w *watching) register(r grpc.ServiceRegistrar) { runtimeapi.RegisterRuntimeServiceServer(r, w) }

func (w *watching) GetContainerEvents(_ *runtimeapi.GetEventsRequest, stream runtimeapi.RuntimeService_GetContainerEventsServer) error {
	return w.streams.wait(stream.Context())
}

func TestWhatAClientHasUnderWayIsBounded(t *testing.T) {
	calls, streams := newHold(), newHold()
	w := &watching{stub: stub{run: calls.wait}, streams: streams}
	r := serveOn(t, w, func(cfg *Config) {
		cfg.CallsPerClient, cfg.StreamsPerClient = 3, 2
		cfg.Long = []string{runtimeapi.RuntimeService_StartContainer_FullMethodName}
	})
	wantRefused := func(err error, what ...string) {
		t.Helper()
		if status.Code(err) != codes.ResourceExhausted {
			t.Errorf("got %v, want ResourceExhausted", err)
		}
		for _, text := range what {
			if !strings.Contains(status.Convert(err).Message(), text) {
				t.Errorf("%v does not tell %q", err, text)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 8)
	for range 3 { // over two connections: it is one client
		client := runtimeapi.NewRuntimeServiceClient(dial(t, r.cfg.Socket))
		go func() {
			_, err := client.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{})
			ended <- err
		}()
		<-calls.entered
	}
	_, err := r.Version(ctx, &runtimeapi.VersionRequest{})
	wantRefused(err, "3 calls", "listen.callsPerClient", "process ")

	// Streams have places of their own.
	for range 2 {
		if _, err := r.GetContainerEvents(ctx, &runtimeapi.GetEventsRequest{}); err != nil {
			t.Fatal(err)
		}
		<-streams.entered
	}
	third, err := r.GetContainerEvents(ctx, &runtimeapi.GetEventsRequest{})
	if err == nil {
		_, err = third.Recv()
	}
	wantRefused(err, "2 streams", "listen.streamsPerClient")
	_, err = r.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: "c"})
	wantRefused(err, "2 streams")

	close(calls.free)
	for range 3 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if _, err := r.Version(ctx, &runtimeapi.VersionRequest{}); err != nil {
		t.Errorf("with places left: %v", err)
	}
	cancel()
	r.stop()
	<-r.ended
	if n := len(r.chain.limits.taken); n != 0 {
		t.Errorf("%d places are taken for ever", n)
	}
}

func TestWhoCountsAsOneClient(t *testing.T) {
	of := func(c credentials.AuthInfo) client {
		return clientOf(peer.NewContext(t.Context(), &peer.Peer{AuthInfo: c}))
	}
	a := of(caller{pid: 7, uid: 1, connection: 1})
	for title, tc := range map[string]struct {
		other caller
		same  bool
	}{
		"another connection of a process": {caller{pid: 7, uid: 1, connection: 2}, true},
		"another process":                 {caller{pid: 8, uid: 1, connection: 2}, false},
		"another user":                    {caller{pid: 7, uid: 2, connection: 2}, false},
	} {
		if got := of(tc.other) == a; got != tc.same {
			t.Errorf("%s is the same client: %t", title, got)
		}
	}
	if of(caller{uid: 1, connection: 1}) == of(caller{uid: 1, connection: 2}) {
		t.Error("processes that the kernel does not name count as one")
	}
}

func TestARequestThatIsTooBigIsRefusedWithItsFigure(t *testing.T) {
	r := serve(t, &stub{}, nil)
	_, err := r.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{RuntimeHandler: strings.Repeat("x", maxMessage)})
	if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "16777216") {
		t.Errorf("got %.200v", err)
	}
}
