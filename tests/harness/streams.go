// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"

	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// upgrade connects to a URL that the daemon's streaming server gave out, as kubelet does
// on a client's behalf, or to one of kubelet's own server: a POST that becomes a SPDY
// connection of that protocol.
func upgrade(ctx context.Context, address, protocol string) (httpstream.Connection, error) {
	// No proxy, whatever the environment says: the server is on this node's loopback.
	tripper, err := spdy.NewRoundTripperWithProxy(ownCertificate(), func(*http.Request) (*url.URL, error) { return nil, nil })
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set(httpstream.HeaderProtocolVersion, protocol)
	res, err := tripper.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	defer res.Body.Close() //nolint:errcheck // the connection lives on without it
	conn, err := tripper.NewConnection(res)
	if err != nil {
		return nil, fmt.Errorf("upgrade of %s: %w", address, err)
	}
	return conn, nil
}

// ownCertificate takes kubelet's certificate, which it has made for itself.
func ownCertificate() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true} //nolint:gosec // as above
}
