// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Screenshot is a picture of what the screen of a VM shows. ref is as in vmOf. FailedPrecondition for a VM that was made
// without a video device.
func (s *Service) Screenshot(ctx context.Context, ref string) (vm.Picture, error) {
	c, err := s.vmOf(ref)
	if err != nil {
		return vm.Picture{}, fmt.Errorf("screenshot: %w", err)
	}
	if err := s.gateVM(c, vm.GateConsole); err != nil {
		return vm.Picture{}, fmt.Errorf("screenshot of the VM of sandbox %s: %w", c.SandboxID, err)
	}
	var picture vm.Picture
	err = s.observed("vm_screenshot", func() (err error) {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		picture, err = s.deps.Screens.Screenshot(ctx, c.SandboxID)
		return err
	})
	if errors.Is(err, vm.ErrNoVideo) {
		err = fmt.Errorf("defaults.video in vmlet's configuration was %s when its container was created; set it to %s and create the VM anew: %w",
			vm.VideoNone, vm.VideoVGA, err)
	}
	if err != nil {
		return vm.Picture{}, fmt.Errorf("screenshot of the VM of sandbox %s: %w", c.SandboxID, err)
	}
	return picture, nil
}

// VNC connects a client to the VNC server of a VM, until one of the two ends or ctx does. ref is as in vmOf; opened is
// called when it is connected. FailedPrecondition where the node's defaults have it off, or had when the VM was made.
func (s *Service) VNC(ctx context.Context, ref string, opened func() error, client io.ReadWriter) error {
	if !s.defaults.Load().VNC {
		return fmt.Errorf("VNC is off on this node: set defaults.vnc in vmlet's configuration; VMs that are created from then on have it: %w",
			errdefs.ErrFailedPrecondition)
	}
	c, err := s.vmOf(ref)
	if err != nil {
		return fmt.Errorf("VNC: %w", err)
	}
	if err := s.gateVM(c, vm.GateConsole); err != nil {
		return fmt.Errorf("VNC to the VM of sandbox %s: %w", c.SandboxID, err)
	}
	if err := s.vnc(ctx, c, opened, client); err != nil {
		return fmt.Errorf("VNC to the VM of sandbox %s: %w", c.SandboxID, err)
	}
	return nil
}

func (s *Service) vnc(ctx context.Context, c vm.Container, opened func() error, client io.ReadWriter) error {
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := s.deps.Screens.OpenVNC(asking, c.SandboxID)
	if errors.Is(err, vm.ErrNoVNC) {
		err = fmt.Errorf("defaults.vnc in vmlet's configuration was off when its container was created; create the VM anew: %w", err)
	}
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // one side has ended before
	if err := opened(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) //nolint:errcheck // it only has to end
	defer stop()
	ended := make(chan error, 2)
	go func() {
		_, err := io.Copy(conn, client)
		ended <- err
	}()
	go func() {
		_, err := io.Copy(client, conn)
		ended <- err
	}()
	err = <-ended
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE): // QEMU has ended with something unread
		return nil
	}
	return err
}
