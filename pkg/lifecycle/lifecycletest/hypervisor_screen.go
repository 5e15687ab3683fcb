// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"
	"io"
	"net"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

var _ lifecycle.Screens = (*Hypervisor)(nil)

// VNCGreeting is what a VNC server says first.
const VNCGreeting = "RFB 003.008\n"

// Screenshot implements lifecycle.Screens: each screen is small and black.
func (h *Hypervisor) Screenshot(ctx context.Context, id string) (vm.Picture, error) {
	var out bytes.Buffer
	err := h.callDomain(ctx, "Screenshot", id, func(d *fakeDomain) error {
		if !d.state.Active() {
			return refused(id, "it is not active")
		}
		if d.machine.Video != vm.VideoVGA {
			return fmt.Errorf("domain of sandbox %s: %w", id, vm.ErrNoVideo)
		}
		return png.Encode(&out, image.NewGray(image.Rect(0, 0, 4, 3)))
	})
	return vm.Picture{PNG: out.Bytes(), Width: 4, Height: 3}, err
}

// OpenVNC implements lifecycle.Screens: each server greets, and then says what it hears.
func (h *Hypervisor) OpenVNC(ctx context.Context, id string) (net.Conn, error) {
	var ours, theirs net.Conn
	err := h.callDomain(ctx, "OpenVNC", id, func(d *fakeDomain) error {
		if !d.state.Active() {
			return refused(id, "it is not active")
		}
		if !d.machine.VNC {
			return fmt.Errorf("domain of sandbox %s: %w", id, vm.ErrNoVNC)
		}
		ours, theirs = net.Pipe()
		return nil
	})
	if err != nil {
		return nil, err
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer end()
		if _, err := io.WriteString(theirs, VNCGreeting); err == nil {
			_, _ = io.Copy(theirs, theirs) //nolint:errcheck // it ends with the client, or QEMU
		}
	}()
	go func() {
		_ = h.awaitEnd(life, id) //nolint:errcheck // one of the two has ended
		_ = theirs.Close()       //nolint:errcheck // the other end sees it
	}()
	return ours, nil
}
