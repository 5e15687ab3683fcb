// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// stub is a service with two methods that do what a test wants; the others are not
// implemented.
type stub struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	runtimeapi.UnimplementedImageServiceServer

	run   func(ctx context.Context) error
	start func(ctx context.Context) error
}

func (*stub) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{}, nil
}

func (s *stub) RunPodSandbox(ctx context.Context, _ *runtimeapi.RunPodSandboxRequest) (*runtimeapi.RunPodSandboxResponse, error) {
	if s.run != nil {
		if err := s.run(ctx); err != nil {
			return nil, err
		}
	}
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: "made"}, nil
}

func (s *stub) StartContainer(ctx context.Context, _ *runtimeapi.StartContainerRequest) (*runtimeapi.StartContainerResponse, error) {
	if s.start != nil {
		if err := s.start(ctx); err != nil {
			return nil, err
		}
	}
	return &runtimeapi.StartContainerResponse{}, nil
}

func (s *stub) register(r grpc.ServiceRegistrar) {
	runtimeapi.RegisterRuntimeServiceServer(r, s)
	runtimeapi.RegisterImageServiceServer(r, s)
}

// running is a server under test.
type running struct {
	*Server
	runtimeapi.RuntimeServiceClient
	conn *grpc.ClientConn
	log  *observer.ObservedLogs
	gate *Gate
	// stop ends the context of Run; ended is closed when Run has returned, with err.
	stop  context.CancelFunc
	ended chan struct{}
	err   error
}

// socketDir is short, unlike t.TempDir: a socket's path has 107 bytes.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vmlet") //nolint:usetesting // too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// serve runs a server with an open gate, unless change closes it again.
func serve(t *testing.T, s *stub, change func(*Config)) *running {
	t.Helper()
	return serveOn(t, s, change)
}

func serveOn(t *testing.T, services interface{ register(grpc.ServiceRegistrar) }, change func(*Config)) *running {
	t.Helper()
	core, lines := observer.New(zap.DebugLevel)
	r := &running{log: lines, gate: NewGate(), ended: make(chan struct{})}
	r.gate.Open()
	cfg := Config{
		Socket: filepath.Join(socketDir(t), "vmlet.sock"), DrainTimeout: time.Minute,
		Logger: zap.New(core), Metrics: prometheus.NewRegistry(), Gate: r.gate,
	}
	if change != nil {
		change(&cfg)
	}
	r.gate = cfg.Gate
	var err error
	if r.Server, err = New(t.Context(), cfg, services.register); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	r.stop = stop
	go func() {
		defer close(r.ended)
		r.err = r.Run(ctx)
	}()
	r.conn = dial(t, cfg.Socket)
	r.RuntimeServiceClient = runtimeapi.NewRuntimeServiceClient(r.conn)
	t.Cleanup(func() {
		stop()
		r.Close()
		<-r.ended
	})
	return r
}

func dial(t *testing.T, socket string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}
