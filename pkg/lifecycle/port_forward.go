// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// dialTimeout bounds a connection to a guest's address, which may answer nothing at all.
const dialTimeout = 10 * time.Second

// PortForward connects a client to a TCP port of the sandbox's guest: to its loopback, by
// the agent, or without one to its address. It returns when both directions have ended, or
// one has failed, or ctx ends. stream.Close tells the client that the guest will send no
// more, and leaves the other direction open.
func (s *Service) PortForward(ctx context.Context, ref string, port uint16, stream io.ReadWriteCloser) error {
	sb, err := s.Sandbox(ref)
	if err != nil {
		return fmt.Errorf("forward port %d: %w", port, err)
	}
	c, ok := s.liveContainer(sb.ID)
	if !ok || c.Status.State != vm.ContainerRunning {
		return fmt.Errorf("forward port %d of sandbox %s: no VM runs in it: %w", port, sb.ID, errdefs.ErrFailedPrecondition)
	}
	if c.Status.Off() {
		return fmt.Errorf("forward port %d of sandbox %s: %w", port, sb.ID, errOff)
	}
	if c.Status.Paused {
		return fmt.Errorf("forward port %d of sandbox %s: its VM is paused: %w", port, sb.ID, errdefs.ErrFailedPrecondition)
	}
	conn, err := s.dial(ctx, sb, port)
	if err != nil {
		return fmt.Errorf("forward port %d of sandbox %s: %w", port, sb.ID, err)
	}
	defer func() { _ = conn.Close() }() //nolint:errcheck // both directions were ended before, or failed
	if err := splice(ctx, conn, stream); err != nil {
		return fmt.Errorf("forward port %d of sandbox %s: %w", port, sb.ID, err)
	}
	return nil
}

// dial connects to a port as a client in the guest would, or as one outside.
func (s *Service) dial(ctx context.Context, sb vm.Sandbox, port uint16) (net.Conn, error) {
	conn, err := s.deps.Guest.Dial(ctx, sb.ID, port)
	if !errors.Is(err, errdefs.ErrNotImplemented) {
		return conn, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	for _, ip := range sb.Status.Network.IPs() {
		address := net.JoinHostPort(ip.String(), strconv.Itoa(int(port)))
		if conn, err = s.deps.Dial(ctx, "tcp", address); err == nil {
			return conn, nil
		}
	}
	return nil, fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
}

// splice copies both ways until both ends have said that they will send no more.
func splice(ctx context.Context, guest net.Conn, client io.ReadWriteCloser) error {
	stop := context.AfterFunc(ctx, func() { _ = guest.Close() }) //nolint:errcheck // it only has to end
	defer stop()
	toGuest := make(chan error, 1)
	go func() {
		_, err := io.Copy(guest, client)
		if half, ok := guest.(interface{ CloseWrite() error }); ok && err == nil {
			err = half.CloseWrite()
		}
		if err != nil {
			_ = guest.Close() //nolint:errcheck // the other direction has to end as well
		}
		toGuest <- err
	}()
	_, err := io.Copy(client, guest)
	err = errors.Join(err, client.Close())
	if err == nil {
		err = <-toGuest
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
