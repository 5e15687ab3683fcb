// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/goleak"
)

func TestHypervisorStartsAndServesWithoutLibvirt(t *testing.T) {
	before := goleak.IgnoreCurrent()
	socket := filepath.Join(t.TempDir(), "none")
	h, err := New(t.Context(), Config{
		URI: "qemu+unix:///system?socket=" + socket, Owner: testNodeOwner, LogDir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Ready(t.Context()); !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(err.Error(), socket) {
		t.Errorf("Ready: %v, want Unavailable with the socket's name", err)
	}
	for operation, do := range onOneDomain(h) {
		if err := do(t.Context()); !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("%s: %v, want Unavailable", operation, err)
		}
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	goleak.VerifyNone(t, before)
}

// silentDaemon accepts connections and never says a word, as a stopped libvirtd does.
func silentDaemon(t *testing.T) (uri string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return "qemu+unix:///system?socket=" + socket
}

func TestHypervisorIsNotHeldUpByALibvirtThatHangs(t *testing.T) {
	uri := silentDaemon(t)
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	h, err := New(ctx, Config{URI: uri, Owner: testNodeOwner, LogDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Ready(t.Context()); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("Ready: %v, want Unavailable", err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > closeTimeout {
		t.Errorf("New, Ready and Close took %s", took)
	}
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	before := goleak.IgnoreCurrent()
	h, err := New(t.Context(), Config{URI: testURI, Owner: testNodeOwner, LogDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	goleak.VerifyNone(t, before)
	if theLoop.users != 0 {
		t.Errorf("%d still hold libvirt's event loop", theLoop.users)
	}
}

func TestLostConnectionComesBackAndSaysSo(t *testing.T) {
	s, h := newStranger(t), newTestHypervisor(t)
	h.eventConn.mu.Lock()
	lost := h.eventConn.live
	h.eventConn.mu.Unlock()
	lost.lost <- 1 // as the close callback does
	expect(t, h, "", "Reconnected", "")
	s.must(s.ours(testID).Create())
	expect(t, h, testID, "Started", "booted")
}

func TestConfigMustBeComplete(t *testing.T) {
	whole := Config{URI: testURI, Owner: "x", LogDir: "/x"}
	for _, unset := range []func(*Config){
		func(c *Config) { c.URI = "" }, func(c *Config) { c.Owner = "" }, func(c *Config) { c.LogDir = "" },
	} {
		cfg := whole
		unset(&cfg)
		if _, err := New(t.Context(), cfg); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("New(%+v): %v, want InvalidArgument", cfg, err)
		}
	}
}
