// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func get(t *testing.T, r *running, path string) (code int, body string) {
	t.Helper()
	resp, err := http.Get("http://" + r.MetricsAddress().String() + path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestHealthzFollowsTheGate(t *testing.T) {
	gate := NewGate()
	r := serve(t, &stub{}, func(cfg *Config) { cfg.Gate, cfg.MetricsAddress = gate, "127.0.0.1:0" })
	gate.Recovering(1, 2)
	if code, body := get(t, r, "/healthz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "recovering 1 of 2") {
		t.Errorf("before: %d %q", code, body)
	}
	gate.Open()
	if code, body := get(t, r, "/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("after: %d %q", code, body)
	}
	r.http.draining.Store(true)
	if code, body := get(t, r, "/healthz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "shutting down") {
		t.Errorf("draining: %d %q", code, body)
	}
}

func TestMetricsAreServed(t *testing.T) {
	r := serve(t, &stub{}, func(cfg *Config) { cfg.MetricsAddress = "localhost:0" })
	if _, err := r.Version(t.Context(), &runtimeapi.VersionRequest{}); err != nil {
		t.Fatal(err)
	}
	code, body := get(t, r, "/metrics")
	for _, want := range []string{
		`vmlet_rpc_total{code="OK",method="runtime.v1.RuntimeService/Version"} 1`,
		`vmlet_rpc_duration_seconds_count{code="OK",method="runtime.v1.RuntimeService/Version"} 1`,
	} {
		if code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%d, without %s:\n%s", code, want, body)
		}
	}
}

func TestNoAddressMeansNoHTTPServer(t *testing.T) {
	if addr := serve(t, &stub{}, nil).MetricsAddress(); addr != nil {
		t.Errorf("listens on %s", addr)
	}
}

func TestMetricsAreForLoopbackOnly(t *testing.T) {
	for address, ok := range map[string]bool{
		"127.0.0.1:9100": true, "[::1]:9100": true, "localhost:9100": true, "127.9.9.9:1": true,
		":9100": false, "0.0.0.0:9100": false, "[::]:9100": false, "10.0.0.1:9100": false, "example.com:80": false, "9100": false,
	} {
		if err := checkLoopback(address); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
	path := filepath.Join(socketDir(t), "s")
	_, err := New(t.Context(), Config{
		Socket: path, MetricsAddress: ":0", Logger: zap.NewNop(), Metrics: prometheus.NewRegistry(), Gate: NewGate(),
	}, (&stub{}).register)
	if !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("got %v, want invalid argument", err)
	}
	// Nothing of the attempt is in the way of the next.
	s, err := listen(t.Context(), path, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
