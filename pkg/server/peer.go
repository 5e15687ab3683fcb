// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// peerCredentials find out who connects, for the log: the kernel tells for a unix socket (SO_PEERCRED, unix(7)). Whom
// it lets connect is the socket's mode and group; nothing is exchanged.
type peerCredentials struct{}

// caller is the process that connected, when it did, by the daemon's own namespaces.
type caller struct {
	credentials.CommonAuthInfo
	pid int32
	uid uint32
	// connection is a number of its own.
	connection uint64
}

var connections atomic.Uint64

// AuthType implements credentials.AuthInfo.
func (caller) AuthType() string { return "unix" }

// ServerHandshake implements credentials.TransportCredentials.
func (peerCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return nil, nil, fmt.Errorf("who connects is not known of a %T", conn)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, nil, fmt.Errorf("find out who connects: %w", err)
	}
	var cred *unix.Ucred
	control := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(control, err); err != nil {
		return nil, nil, fmt.Errorf("find out who connects: %w", err)
	}
	// No byte leaves the kernel.
	common := credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}
	return conn, caller{common, cred.Pid, cred.Uid, connections.Add(1)}, nil
}

// ClientHandshake implements credentials.TransportCredentials.
func (peerCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are a server's")
}

// Info implements credentials.TransportCredentials.
func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix"}
}

// Clone implements credentials.TransportCredentials.
func (c peerCredentials) Clone() credentials.TransportCredentials { return c }

// OverrideServerName implements credentials.TransportCredentials.
func (peerCredentials) OverrideServerName(string) error { return nil }

// callerFields say who calls.
func callerFields(ctx context.Context) []zap.Field {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	c, ok := p.AuthInfo.(caller)
	if !ok {
		return nil
	}
	return []zap.Field{zap.Int32("pid", c.pid), zap.Uint32("uid", c.uid)}
}
