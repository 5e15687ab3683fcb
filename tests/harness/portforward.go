// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/streaming/pkg/httpstream"
)

// Forward is a connection by the PortForward of the CRI, over which any number of
// connections to the pod's ports can be made.
type Forward struct {
	conn httpstream.Connection
	next atomic.Int64
}

// StartForward connects to the pod.
func (r *Running) StartForward(ctx context.Context, ports ...int32) (*Forward, error) {
	res, err := r.node.PortForward(ctx, &runtimeapi.PortForwardRequest{PodSandboxId: r.SandboxID, Port: ports})
	if err != nil {
		return nil, err
	}
	return ConnectForward(ctx, res.GetUrl())
}

// ConnectForward connects to a URL that was promised for ports of a pod.
func ConnectForward(ctx context.Context, url string) (*Forward, error) {
	conn, err := upgrade(ctx, url, "portforward.k8s.io")
	if err != nil {
		return nil, err
	}
	return &Forward{conn: conn}, nil
}

// Close ends the connection and all that goes over it.
func (f *Forward) Close() { _ = f.conn.Close() } //nolint:errcheck // it is over in any case

// ForwardedConn is one connection to a port of the pod. Close closes the half that is
// written; reading ends when the other side has closed its own.
type ForwardedConn struct {
	io.ReadWriteCloser
	failure chan error
}

// Dial connects to a port of the pod. What goes wrong with the connection is told by Err.
func (f *Forward) Dial(port int) (*ForwardedConn, error) {
	headers := http.Header{}
	headers.Set("port", strconv.Itoa(port))
	headers.Set("requestID", strconv.FormatInt(f.next.Add(1), 10))
	headers.Set("streamType", "error")
	errs, err := f.conn.CreateStream(headers)
	if err != nil {
		return nil, fmt.Errorf("open the error stream to port %d: %w", port, err)
	}
	// Nothing is ever sent on it.
	if err := errs.Close(); err != nil {
		return nil, err
	}
	// Read from now on: what nobody reads holds up all that comes over the connection.
	failure := make(chan error, 1)
	go func() {
		message, err := io.ReadAll(errs)
		if err == nil && len(message) > 0 {
			err = errors.New(string(message))
		}
		failure <- err
	}()
	headers = headers.Clone()
	headers.Set("streamType", "data")
	data, err := f.conn.CreateStream(headers)
	if err != nil {
		return nil, fmt.Errorf("open the data stream to port %d: %w", port, err)
	}
	return &ForwardedConn{ReadWriteCloser: data, failure: failure}, nil
}

// Err waits for the end of the connection and returns what went wrong, nil for nothing.
func (c *ForwardedConn) Err() error { return <-c.failure }
