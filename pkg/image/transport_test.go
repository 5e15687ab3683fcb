// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
)

func TestPlainHTTPIsForThisHostAndListedRegistries(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "x.localhost:1": true, "127.0.0.1": true, "127.0.0.1:5000": true, "127.8.8.8:1": true,
		"[::1]:5000": true, "[::1]": true, "[::ffff:127.0.0.1]:1": true, "insecure.example:5000": true,
		"insecure.example": false, "10.0.0.1:5000": false, "192.168.0.1": false, "registry.local": false, "localhost.example": false,
		"127.0.0.1.example": false, "[fe80::1]:5000": false, "0.0.0.0:5000": false,
	} {
		if got := plainHTTPAllowed(host, []string{"insecure.example:5000"}); got != want {
			t.Errorf("%s: %v, want %v", host, got, want)
		}
	}
}

// plainDialer serves every address by one registry, so that names and addresses which are
// not this host can be spoken to without leaving it.
type plainDialer struct{ host string }

func (d plainDialer) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme == "https" {
		return nil, http.ErrSchemeMismatch
	}
	sent := req.Clone(req.Context())
	sent.URL.Host = d.host
	return http.DefaultTransport.RoundTrip(sent)
}

func TestPlainHTTPToOtherHostsIsRefused(t *testing.T) {
	reg := newRegistry(t)
	reg.push("vms/test:v1", artifact(t, rawType, rawDisk(1, mib)))
	for host, allowed := range map[string]bool{"10.1.2.3:5000": false, "registry.example": false, "node1.local:5000": false, "insecure.example:5000": true} {
		s := openStore(t)
		s.cfg.Insecure = []string{"insecure.example:5000"}
		s.transport = &noPlainHTTP{inner: plainDialer{reg.host}, allowed: s.cfg.Insecure}
		reg.misbehave(nil)
		_, err := s.Pull(t.Context(), host+"/vms/test:v1", noAuth, nil)
		switch {
		case allowed && err != nil:
			t.Errorf("%s: %v", host, err)
		case !allowed && (!errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "plain HTTP is only for")):
			t.Errorf("%s: got %v, want FailedPrecondition", host, err)
		case !allowed && len(reg.all()) != 0:
			t.Errorf("%s was sent %v", host, reg.all())
		}
	}
}

func TestACertificateOfNobodyIsRefusedAtOnce(t *testing.T) {
	var asked atomic.Int64
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	defer server.Close()
	s := openStore(t)
	_, err := s.Pull(t.Context(), strings.TrimPrefix(server.URL, "https://")+"/x:y", noAuth, nil)
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "certificate") || asked.Load() != 0 {
		t.Errorf("got %v, want FailedPrecondition", err)
	}
}

func TestRedirectsToTheNodesOwnServicesAreRefused(t *testing.T) {
	request := func(url string) *http.Request {
		return must(http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody))(t)
	}
	for from, targets := range map[string]map[string]bool{
		"https://registry.example/v2/": {
			"https://cdn.example/x": true, "https://10.0.0.5/x": true, "https://127.0.0.1:10250/x": false, "https://localhost/x": false,
			"https://[::1]/x": false, "http://169.254.169.254/latest": false, "https://[fe80::1]/x": false, "https://0.0.0.0/x": false,
		},
		"http://127.0.0.1:5000/v2/": {"http://127.0.0.1:9000/x": true},
	} {
		for to, allowed := range targets {
			if err := checkRedirect(request(to), []*http.Request{request(from)}); allowed != (err == nil) {
				t.Errorf("%s to %s: %v", from, to, err)
			}
		}
	}
	if err := checkRedirect(request("https://a/"), make([]*http.Request, maxRedirects)); !errdefs.IsUnavailable(err) {
		t.Errorf("without an end: %v", err)
	}
}

func TestRetriesWaitLongerEachTimeAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failure := errCut
		tries, begun := 0, time.Now()
		err := defaultRetry.do(t.Context(), func(context.Context) error { tries++; return failure })
		if !errors.Is(err, failure) || tries != defaultRetry.attempts {
			t.Errorf("%d tries and %v", tries, err)
		}
		// 250, 500, 1000 and 2000 ms, each between half and whole.
		if took := time.Since(begun); took < 1875*time.Millisecond || took > 3750*time.Millisecond {
			t.Errorf("it took %v", took)
		}

		tries = 0
		err = defaultRetry.do(t.Context(), func(context.Context) error { tries++; return errdefs.ErrNotFound })
		if !errdefs.IsNotFound(err) || tries != 1 {
			t.Errorf("a final error was tried %d times: %v", tries, err)
		}

		err = defaultRetry.do(t.Context(), func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) })
		if !errors.Is(err, errStalled) {
			t.Errorf("a silent registry: %v", err)
		}

		ctx, cancel := context.WithCancel(t.Context())
		err = defaultRetry.do(ctx, func(context.Context) error { cancel(); return failure })
		if !errdefs.IsCanceled(err) {
			t.Errorf("given up: %v", err)
		}
	})
}
