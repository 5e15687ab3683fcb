// SPDX-License-Identifier: Apache-2.0

// Package server is the daemon's edge: the unix socket, the one chain that every gRPC
// call goes through (logger, gate, panics, error classes, metrics), gRPC health and
// reflection, and the loopback HTTP server for metrics. It knows no service: they are
// registered on it, and later ones join the same socket the same way.
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
)

// maxMessage is the largest message, in bytes, that is taken and sent: what a kubelet
// takes and sends.
const maxMessage = 16 << 20

// maxHeaders is the size, in bytes, of a request's headers: a trace context is all that clients send.
const maxHeaders = 64 << 10

// spareStreams is how many requests more than it may have under way a client is told of that it has too many.
const spareStreams = 128

// DefaultDrainTimeout is how long calls under way may take after the daemon was told to
// stop, where Config names no other time.
const DefaultDrainTimeout = 10 * time.Second

// Config is what the server is made of.
type Config struct {
	// Socket is the absolute path of the unix socket. It gets mode 0660.
	Socket string
	// Group owns the socket, by name or number; "" leaves it to the daemon's own group.
	Group string
	// MetricsAddress is a loopback host:port for /metrics and /healthz, "" for none.
	MetricsAddress string
	// DrainTimeout bounds the wait for calls under way, 0 for DefaultDrainTimeout.
	DrainTimeout time.Duration

	Logger *zap.Logger
	// Metrics is where the server's own metrics are registered, and all that is served.
	Metrics *prometheus.Registry
	// Gate refuses calls until it is opened.
	Gate *Gate
	// Ungated are the full names of methods that answer all the same. Health and
	// reflection always do.
	Ungated []string
	// CallsPerClient and StreamsPerClient are what one client may have under way, 0 for the defaults.
	CallsPerClient, StreamsPerClient int
	// Long are the full names of unary methods that count as streams: they may take very long.
	Long []string
	// Describe returns what a request's log lines say of it beside its IDs; it must not
	// tell secrets. May be nil.
	Describe func(req any) []zap.Field
}

// Server serves gRPC on a unix socket. Whoever made one calls Run or Close.
type Server struct {
	cfg    Config
	chain  *chain
	grpc   *grpc.Server
	health *health.Server
	socket *socket
	http   *httpServer // nil for none

	closed sync.Once
}

// New binds the socket and the HTTP address, so that what stands in the way is known
// before anything else is done, and registers the services. Calls wait until Run.
// InvalidArgument for a bad configuration, FailedPrecondition if another process serves
// on the socket.
func New(ctx context.Context, cfg Config, register func(grpc.ServiceRegistrar)) (*Server, error) {
	if cfg.DrainTimeout <= 0 {
		cfg.DrainTimeout = DefaultDrainTimeout
	}
	cfg.CallsPerClient = cmp.Or(cfg.CallsPerClient, DefaultCallsPerClient)
	cfg.StreamsPerClient = cmp.Or(cfg.StreamsPerClient, DefaultStreamsPerClient)
	if cfg.Describe == nil {
		cfg.Describe = func(any) []zap.Field { return nil }
	}
	calls, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, fmt.Errorf("register the server's metrics: %w", err)
	}
	s := &Server{cfg: cfg, chain: newChain(cfg, calls), health: health.NewServer()}
	if s.socket, err = listen(ctx, cfg.Socket, cfg.Group); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", cfg.Socket, err)
	}
	if cfg.MetricsAddress != "" {
		if s.http, err = listenHTTP(ctx, cfg.MetricsAddress, cfg.Metrics, cfg.Gate); err != nil {
			return nil, errors.Join(fmt.Errorf("listen on %s: %w", cfg.MetricsAddress, err), s.socket.Close())
		}
	}
	s.grpc = grpc.NewServer(
		grpc.Creds(peerCredentials{}),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxMessage),
		grpc.MaxHeaderListSize(maxHeaders),
		// Requests that have not come whole are in nobody's count yet. On one connection they wait beyond this.
		grpc.MaxConcurrentStreams(uint32(cfg.CallsPerClient+cfg.StreamsPerClient+spareStreams)),
		grpc.UnaryInterceptor(s.chain.unary),
		grpc.StreamInterceptor(s.chain.stream),
	)
	register(s.grpc)
	healthpb.RegisterHealthServer(s.grpc, s.health)
	s.setHealth(healthpb.HealthCheckResponse_NOT_SERVING)
	reflection.Register(s.grpc)
	return s, nil
}

// MetricsAddress is where the HTTP server listens, nil for nowhere: the port is known
// here when port 0 was asked for.
func (s *Server) MetricsAddress() net.Addr {
	if s.http == nil {
		return nil
	}
	return s.http.listener.Addr()
}

// Run serves until ctx ends, then lets calls under way finish for as long as
// Config.DrainTimeout and closes. It returns nil after that and after Close, or why
// serving failed.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close()
	failed := make(chan error, 2)
	go func() { failed <- s.grpc.Serve(s.socket) }()
	if s.http != nil {
		go func() { failed <- s.http.serve() }()
	}
	s.cfg.Logger.Info("serving", zap.String("socket", s.cfg.Socket))
	opened := s.cfg.Gate.Opened()
	for {
		select {
		case <-opened:
			s.setHealth(healthpb.HealthCheckResponse_SERVING)
			opened = nil // a closed channel would be chosen for ever
		case err := <-failed:
			if err == nil || errors.Is(err, grpc.ErrServerStopped) { // by Close
				return nil
			}
			return fmt.Errorf("serve: %w", err)
		case <-ctx.Done():
			s.drain()
			return nil
		}
	}
}

// setHealth tells the same of the whole server ("") and of each service.
func (s *Server) setHealth(status healthpb.HealthCheckResponse_ServingStatus) {
	s.health.SetServingStatus("", status)
	for service := range s.grpc.GetServiceInfo() {
		s.health.SetServingStatus(service, status)
	}
}

// drain ends serving: nothing new is taken, streams are told to end, and calls under way
// finish or are cut off when the time is up.
func (s *Server) drain() {
	s.cfg.Logger.Info("draining calls", zap.Duration("timeout", s.cfg.DrainTimeout))
	s.health.Shutdown()
	if s.http != nil {
		s.http.draining.Store(true)
	}
	s.chain.endStreams()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.grpc.GracefulStop()
	}()
	timeout := time.NewTimer(s.cfg.DrainTimeout)
	defer timeout.Stop()
	select {
	case <-drained:
		s.cfg.Logger.Info("all calls have ended")
	case <-timeout.C:
		s.cfg.Logger.Warn("calls still under way are cut off", zap.Int64("calls", s.chain.inFlight.Load()))
	}
}

// Close stops serving at once: calls under way see their context end. Idempotent.
func (s *Server) Close() {
	s.closed.Do(func() {
		s.chain.endStreams()
		s.grpc.Stop()
		if err := s.socket.Close(); err != nil {
			s.cfg.Logger.Warn("the socket was not removed", zap.Error(err))
		}
		if s.http == nil {
			return
		}
		if err := s.http.server.Close(); err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.cfg.Logger.Warn("the metrics server was not closed", zap.Error(err))
		}
	})
}

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrInvalidArgument)...)
}
