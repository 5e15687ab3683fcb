// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// httpServer serves /metrics and /healthz. There is no login, hence loopback only.
type httpServer struct {
	server   *http.Server
	listener net.Listener
	gate     *Gate
	draining atomic.Bool
}

func listenHTTP(ctx context.Context, address string, registry *prometheus.Registry, gate *Gate) (*httpServer, error) {
	if err := checkLoopback(address); err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	h := &httpServer{listener: listener, gate: gate}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", h.healthz)
	h.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	return h, nil
}

// checkLoopback refuses an address that other machines could reach.
func checkLoopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return invalid("metrics address %q is not host:port", address)
	}
	if host == "localhost" {
		return nil
	}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
		return invalid("metrics address %q is not on loopback: anybody who reaches it may read it", address)
	}
	return nil
}

// healthz answers 200 while calls are served, else 503 with the reason.
func (h *httpServer) healthz(w http.ResponseWriter, _ *http.Request) {
	err := h.gate.Err()
	if h.draining.Load() {
		err = errors.New("vmlet is shutting down")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok") //nolint:errcheck // the client is gone, and nobody else cares
}

// serve returns nil once the server was closed.
func (h *httpServer) serve() error {
	if err := h.server.Serve(h.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
