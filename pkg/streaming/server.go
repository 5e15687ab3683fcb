// SPDX-License-Identifier: Apache-2.0

package streaming

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"
	"k8s.io/klog/v2"
)

const (
	// DefaultIdleTimeout ends a stream on which nothing went either way for so long. It is
	// kubelet's (streamingConnectionIdleTimeout).
	DefaultIdleTimeout = 4 * time.Hour
	drainTime          = 3 * time.Second
	farewell           = 5 * time.Second
	// headerTimeout bounds the request, and the opening of its streams after it.
	headerTimeout = 10 * time.Second
)

// errShutdown is why streams end that outlast the daemon.
var errShutdown = fmt.Errorf("vmlet is shutting down: %w", errdefs.ErrUnavailable)

// Config is what the server is made of.
type Config struct {
	// Address is the IP:PORT to serve on; port 0 is one that is free. Clients are sent
	// there, so it is one address, not all of them.
	Address string
	// TLSCert and TLSKey are PEM files, read for each connection, so that renewed ones
	// count. Without them the address must be on loopback.
	TLSCert, TLSKey string
	// IdleTimeout ends a stream on which nothing goes either way, 0 for DefaultIdleTimeout.
	IdleTimeout time.Duration
	Logger      *zap.Logger
}

// Server serves the streams that were promised. Whoever made one calls Run or Close.
type Server struct {
	cfg      Config
	svc      UseCases
	promises *promises
	listener net.Listener
	http     *http.Server
	base     url.URL

	// drainTime is how long streams may go on after the daemon was told to stop, and
	// farewell how long their clients may take to hear of their end.
	drainTime, farewell time.Duration
	// life ends when streams must.
	life context.Context //nolint:containedctx // the server's own life, not a request's
	end  context.CancelCauseFunc

	mu       sync.Mutex
	draining bool
	streams  sync.WaitGroup // those that run
}

// New binds the address; streams wait until Run. InvalidArgument for an address or a
// certificate that cannot be used.
func New(ctx context.Context, cfg Config, svc UseCases) (*Server, error) {
	if cfg.IdleTimeout <= 0 {
		cfg.IdleTimeout = DefaultIdleTimeout
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	secure, err := checkConfig(cfg)
	if err != nil {
		return nil, err
	}
	bound, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", cfg.Address, err)
	}
	quiet()
	s := &Server{cfg: cfg, svc: svc, promises: newPromises(time.Now), listener: listener{bound}, drainTime: drainTime, farewell: farewell}
	s.base = url.URL{Scheme: "http", Host: bound.Addr().String()}
	s.life, s.end = context.WithCancelCause(context.WithoutCancel(ctx))
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       headerTimeout,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // of handshakes that fail
		BaseContext:       func(net.Listener) context.Context { return s.life },
		ConnContext:       connContext,
		Protocols:         new(http.Protocols),
	}
	s.http.Protocols.SetHTTP1(true) // neither protocol can be upgraded to from HTTP/2
	if secure {
		s.base.Scheme = "https"
		s.http.TLSConfig = tlsConfig(cfg)
	}
	return s, nil
}

// quiet ends what the protocols' library writes to a log of the whole process: it tells us
// or the client the same.
var quiet = sync.OnceFunc(func() { klog.SetSlogLogger(slog.New(slog.DiscardHandler)) })

// checkConfig tells whether TLS is used, or what is wrong.
func checkConfig(cfg Config) (secure bool, err error) {
	secure = cfg.TLSCert != "" && cfg.TLSKey != ""
	address, err := netip.ParseAddrPort(cfg.Address)
	switch {
	case err != nil:
		err = fmt.Errorf("%q is not IP:PORT", cfg.Address)
	case (cfg.TLSCert == "") != (cfg.TLSKey == ""):
		err = errors.New("a certificate and its key are needed, not one of them")
	case address.Addr().IsUnspecified():
		err = fmt.Errorf("%s is no address that a client could be sent to", address.Addr())
	case !secure && !address.Addr().IsLoopback():
		err = fmt.Errorf("%s is not a loopback address, and there is no certificate: streams carry shells", address.Addr())
	case secure:
		_, err = tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
	}
	if err != nil {
		err = fmt.Errorf("serve streams: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return secure, err
}

func tlsConfig(cfg Config) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, // of kubelet's clients
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
			return &pair, err
		},
	}
}

// Address is where the server listens, with the port that is in use.
func (s *Server) Address() net.Addr { return s.listener.Addr() }

// Run serves until ctx ends. Streams under way then have drainTime to end by
// themselves; those that do not are told that vmlet shuts down, and what runs in guests for
// their clients is killed. It returns when all have ended, or why serving failed.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close()
	failed := make(chan error, 1)
	go func() {
		if s.http.TLSConfig != nil {
			failed <- s.http.ServeTLS(s.listener, "", "")
			return
		}
		failed <- s.http.Serve(s.listener)
	}()
	select {
	case err := <-failed:
		if errors.Is(err, http.ErrServerClosed) { // by Close
			return nil
		}
		return fmt.Errorf("serve streams: %w", err)
	case <-ctx.Done():
		s.drain()
		return nil
	}
}

// drain takes nothing new, and returns when the streams have ended, one way or another.
func (s *Server) drain() {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	_ = s.listener.Close() //nolint:errcheck // nothing was written to it
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.streams.Wait()
	}()
	for _, wait := range []time.Duration{s.drainTime, 2 * s.farewell} {
		timeout := time.NewTimer(wait)
		select {
		case <-ended:
			timeout.Stop()
			return
		case <-timeout.C:
			s.end(errShutdown)
		}
	}
	s.cfg.Logger.Warn("streams still under way are left behind")
}

// Close stops serving at once. Idempotent.
func (s *Server) Close() {
	s.end(errShutdown)
	_ = s.http.Close()     //nolint:errcheck // connections that end
	_ = s.listener.Close() //nolint:errcheck // the same
}

// serve gives a client the streams that were promised to it.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	stream := s.promises.keep(r.URL.Path)
	if stream == nil {
		http.Error(w, "no stream was promised here: a URL is good once, and for "+promiseLife.String(), http.StatusNotFound)
		return
	}
	if !s.begin() {
		http.Error(w, errShutdown.Error(), http.StatusServiceUnavailable)
		return
	}
	defer s.streams.Done()
	if c := connOf(r.Context()); c != nil {
		defer c.attend(r.Context(), s.farewell)()
	}
	stream(w, r)
}

// begin counts a stream that runs, unless the server is about to end.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.streams.Add(1)
	return true
}

// promise returns the URL under which a client gets its streams.
func (s *Server) promise(kind string, serve http.HandlerFunc) (string, error) {
	path, err := s.promises.make(kind, serve)
	if err != nil {
		return "", err
	}
	return s.base.JoinPath(path).String(), nil
}

// ended logs how a stream ended. What the client's user typed or ran is not told.
func (s *Server) ended(ctx context.Context, kind, id string, began time.Time, err error) {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	s.cfg.Logger.Info("stream ended", zap.String("kind", kind), zap.String("of", id),
		zap.Duration("took", time.Since(began)), zap.Error(err))
}
