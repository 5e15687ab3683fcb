// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"net"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Screens shows what guests show. Each method is FailedPrecondition for a domain that is not active.
type Screens interface {
	// Screenshot is what the guest's screen shows now. vm.ErrNoVideo for a machine without a video device,
	// FailedPrecondition for a screen that is too large.
	Screenshot(ctx context.Context, id string) (vm.Picture, error)
	// OpenVNC connects to the VNC server in QEMU, which speaks first (RFC 6143). The connection is the caller's, and ends
	// with QEMU; it does not need libvirt any more. vm.ErrNoVNC for a machine without one.
	OpenVNC(ctx context.Context, id string) (net.Conn, error)
}
