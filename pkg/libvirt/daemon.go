// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// systemSockets are where libvirt's clients look for the QEMU daemon of the system, in
// this order: the modular daemon, then the monolithic one.
var systemSockets = []string{"/run/libvirt/virtqemud-sock", "/run/libvirt/libvirt-sock"}

// peerTimeout is far more than connecting to a local socket takes.
const peerTimeout = time.Second

// daemonPID is the process that listens on the socket of a URI: libvirtd, or systemd where
// that listens in its place, which has the same view of the file system.
func daemonPID(ctx context.Context, uri string) (int, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if u.Host != "" || u.Path != "/system" {
		return 0, fmt.Errorf("%s is not a libvirtd of this host's system: %w", uri, errdefs.ErrNotImplemented)
	}
	sockets := systemSockets
	if socket := u.Query().Get("socket"); socket != "" {
		sockets = []string{socket}
	}
	for _, socket := range sockets {
		pid, err := peerPID(ctx, socket)
		if !errors.Is(err, fs.ErrNotExist) {
			return pid, err
		}
	}
	return 0, fmt.Errorf("none of the sockets %v exists: %w", sockets, errdefs.ErrUnavailable)
}

// peerPID asks the kernel who listens on a unix socket.
func peerPID(ctx context.Context, socket string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return 0, err
	}
	defer c.Close() //nolint:errcheck // nothing was written
	unixConn, ok := c.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("%s: %T is no unix socket: %w", socket, c, errdefs.ErrInternal)
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, fmt.Errorf("ask who listens on %s: %w", socket, credErr)
	}
	return int(cred.Pid), nil
}
