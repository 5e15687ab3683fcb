// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/agentlink"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// dialTimeout is how long a port of the guest's own loopback may take to answer.
const dialTimeout = 10 * time.Second

// loopbacks are the addresses of a network, in the order in which they are tried.
var loopbacks = map[string][]string{
	"tcp":  {"127.0.0.1", "::1"},
	"tcp4": {"127.0.0.1"},
	"tcp6": {"::1"},
}

// dial connects the stream to a port of the guest's loopback.
func dial(ctx context.Context, st *agentlink.Stream, req *agentv1.DialRequest) error {
	conn, err := connect(ctx, req)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // both halves are done with
	if err := st.Send(&agentv1.Reply{}); err != nil {
		return nil // nobody is there to be told
	}
	// A connection that one side has lost is of no use to the other.
	ctx, lost := context.WithCancel(ctx)
	defer lost()
	defer context.AfterFunc(ctx, func() {
		_ = conn.SetDeadline(time.Unix(1, 0)) //nolint:errcheck // a closed one has nothing to interrupt
		_ = st.Close()                        //nolint:errcheck // it is of no use any more
	})()
	var halves sync.WaitGroup
	halves.Go(func() {
		if _, err := io.Copy(conn, st); err != nil || conn.CloseWrite() != nil {
			lost()
		}
	})
	halves.Go(func() {
		if _, err := io.Copy(st, conn); err != nil || st.CloseWrite() != nil {
			lost()
		}
	})
	halves.Wait()
	return nil
}

func connect(ctx context.Context, req *agentv1.DialRequest) (*net.TCPConn, error) {
	addresses := loopbacks[req.GetNetwork()]
	if addresses == nil || req.GetPort() == 0 || req.GetPort() > 65535 {
		return nil, fmt.Errorf("network %q, port %d: %w", req.GetNetwork(), req.GetPort(), errdefs.ErrInvalidArgument)
	}
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: -1} // what is local needs no probes
	var failed error
	for _, address := range addresses {
		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(int(req.GetPort()))))
		if tcp, ok := conn.(*net.TCPConn); ok {
			return tcp, nil
		}
		failed = errors.Join(failed, err)
	}
	return nil, fmt.Errorf("%w: %w", failed, errdefs.ErrUnavailable)
}
