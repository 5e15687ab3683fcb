// SPDX-License-Identifier: Apache-2.0

package streaming

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
)

// maxForwards is how many connections one client may have through one port-forward at
// once: each takes memory here and in the guest.
const maxForwards = 1000

// PortForward promises connections to ports of a sandbox's guest, and returns where the
// client gets them. ports are for WebSocket clients, whose protocol names none; others name
// a port with each connection. ResourceExhausted if too many wait.
func (s *Server) PortForward(sandboxID string, ports []int32) (string, error) {
	return s.promise("portforward", func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		portforward.ServePortForward(w, r, &forwarder{s: s, ctx: r.Context()}, sandboxID, "", &portforward.V4Options{Ports: ports},
			s.cfg.IdleTimeout, headerTimeout, portforward.SupportedProtocols)
		s.ended(r.Context(), "portforward", sandboxID, began, nil)
	})
}

// forwarder is what the protocols call for each of a client's connections.
type forwarder struct {
	s   *Server
	ctx context.Context //nolint:containedctx // the client's: the library passes none that ends
	now atomic.Int64    // connections that are open
}

// PortForward implements portforward.PortForwarder.
func (f *forwarder) PortForward(_ context.Context, id, _ string, port int32, stream io.ReadWriteCloser) error {
	err := f.forward(id, port, stream)
	if err != nil && f.ctx.Err() == nil {
		// The library calls us before it has told the client that its stream is there, and
		// resets the stream for an error. A client that hears of the reset first never reads
		// the error. Writing waits for the former; nothing is sent.
		_, _ = stream.Write(nil) //nolint:errcheck // the error is another one already
	}
	return err
}

func (f *forwarder) forward(id string, port int32, stream io.ReadWriteCloser) error {
	if !f.s.begin() {
		return errShutdown
	}
	defer f.s.streams.Done()
	defer f.now.Add(-1)
	if f.now.Add(1) > maxForwards {
		return fmt.Errorf("more than %d connections at once: %w", maxForwards, errdefs.ErrResourceExhausted)
	}
	err := f.s.svc.PortForward(f.ctx, id, uint16(port), stream)
	if f.ctx.Err() != nil {
		return context.Cause(f.ctx)
	}
	return err
}
