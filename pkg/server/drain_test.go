// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestCallsUnderWayFinishWhileNewOnesAreTurnedAway(t *testing.T) {
	const calls = 20
	begun, release := make(chan struct{}, calls), make(chan struct{})
	r := serve(t, &stub{run: func(context.Context) error {
		begun <- struct{}{}
		<-release
		return nil
	}}, nil)
	var clients sync.WaitGroup
	results := make(chan error, calls)
	for range calls {
		clients.Go(func() {
			_, err := r.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{})
			results <- err
		})
	}
	for range calls {
		<-begun
	}
	r.stop()
	// The socket goes first: whoever comes now finds nobody.
	late := dial(t, r.cfg.Socket)
	for {
		_, err := runtimeapi.NewRuntimeServiceClient(late).Version(t.Context(), &runtimeapi.VersionRequest{})
		if status.Code(err) == codes.Unavailable {
			break
		}
	}
	select {
	case <-r.ended:
		t.Error("Run returned with calls under way")
	default:
	}
	close(release)
	clients.Wait()
	for range calls {
		if err := <-results; err != nil {
			t.Errorf("a call under way: %v", err)
		}
	}
	<-r.ended
	if r.err != nil {
		t.Errorf("Run: %v", r.err)
	}
	if _, err := os.Lstat(r.cfg.Socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestTheDrainIsBounded(t *testing.T) {
	begun, cut := make(chan struct{}), make(chan struct{})
	r := serve(t, &stub{run: func(ctx context.Context) error {
		close(begun)
		<-ctx.Done()
		close(cut)
		return ctx.Err()
	}}, func(cfg *Config) { cfg.DrainTimeout = 20 * time.Millisecond })
	result := make(chan error, 1)
	go func() {
		_, err := r.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{})
		result <- err
	}()
	<-begun
	r.stop()
	<-r.ended
	<-cut
	if err := <-result; status.Code(err) != codes.Unavailable {
		t.Errorf("the call that was cut off got %v, want Unavailable", err)
	}
	if n := r.log.FilterMessage("calls still under way are cut off").Len(); n != 1 {
		t.Errorf("%d lines tell that calls were cut off, want 1", n)
	}
}

func TestAnOpenStreamDoesNotHoldUpTheDrain(t *testing.T) {
	r := serve(t, &stub{}, nil) // a minute to drain
	watch, err := healthpb.NewHealthClient(r.conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	r.stop()
	<-r.ended
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("took %s", took)
	}
	for err == nil {
		_, err = watch.Recv()
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("the stream ended with %v, want Unavailable", err)
	}
}

func TestCloseEndsRun(t *testing.T) {
	r := serve(t, &stub{}, nil)
	r.Close()
	<-r.ended
	if r.err != nil {
		t.Errorf("Run: %v", r.err)
	}
}
