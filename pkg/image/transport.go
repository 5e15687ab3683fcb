// SPDX-License-Identifier: Apache-2.0

package image

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/vmlet/vmlet/pkg/version"
)

// maxRedirects is what net/http allows, too.
const maxRedirects = 10

// newTransport makes the connections to registries: proxies from the environment, the
// host's certificate authorities, and no plain HTTP beyond this host but to the registries
// in insecure.
func newTransport(insecure []string, headerTimeout time.Duration) (rt http.RoundTripper, closeIdle func()) {
	base := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: headerTimeout}).DialContext,
		ForceAttemptHTTP2:     true,
		TLSHandshakeTimeout:   headerTimeout,
		ResponseHeaderTimeout: headerTimeout,
		IdleConnTimeout:       time.Minute,
		MaxIdleConnsPerHost:   4,
		// A blob's digest is of the bytes as they are sent.
		DisableCompression: true,
		// Fewer and larger reads of a stream that is hashed in large pieces anyhow.
		ReadBufferSize: 64 << 10,
	}
	guarded := &noPlainHTTP{inner: base, allowed: insecure}
	return transport.NewUserAgent(guarded, "vmlet/"+version.Version), base.CloseIdleConnections
}

// noPlainHTTP refuses requests over plain HTTP to other hosts. It sees all that is sent:
// the question whether a registry speaks TLS, tokens, redirects.
type noPlainHTTP struct {
	inner   http.RoundTripper
	allowed []string
}

// RoundTrip implements http.RoundTripper.
func (g *noPlainHTTP) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !plainHTTPAllowed(req.URL.Host, g.allowed) {
		return nil, plainHTTPRefused(req.URL.Host)
	}
	return g.inner.RoundTrip(req)
}

func plainHTTPRefused(host string) error {
	return fmt.Errorf("%s speaks no TLS, and plain HTTP is only for registries on this host and those listed as insecure: %w", host, errdefs.ErrFailedPrecondition)
}

func plainHTTPAllowed(hostPort string, insecure []string) bool {
	return isLoopback(hostPort) || slices.Contains(insecure, hostPort)
}

// isLoopback tells whether a host, with or without a port, is this host by its name or
// address alone.
func isLoopback(hostPort string) bool {
	addr, ok := literal(hostPort)
	if !ok {
		host := hostOf(hostPort)
		return host == "localhost" || strings.HasSuffix(host, ".localhost")
	}
	return addr.IsLoopback()
}

func hostOf(hostPort string) string {
	if host, _, err := net.SplitHostPort(hostPort); err == nil {
		return host
	}
	return strings.Trim(hostPort, "[]")
}

func literal(hostPort string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(hostOf(hostPort))
	return addr.Unmap(), err == nil
}

// checkRedirect keeps a registry from sending the node to its own services and to its
// cloud's metadata service.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("more than %d redirects: %w", maxRedirects, errdefs.ErrUnavailable)
	}
	if isLoopback(via[0].URL.Host) {
		return nil
	}
	addr, isAddr := literal(req.URL.Host)
	if isLoopback(req.URL.Host) || isAddr && (addr.IsLinkLocalUnicast() || addr.IsUnspecified()) {
		return fmt.Errorf("%s redirects to %s: %w", via[0].URL.Host, req.URL.Host, errdefs.ErrFailedPrecondition)
	}
	return nil
}
