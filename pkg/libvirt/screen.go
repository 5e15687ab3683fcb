// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/libvirt/picture"
	"github.com/vmlet/vmlet/pkg/vm"
)

// Screenshot implements lifecycle.Screens.
func (h *Hypervisor) Screenshot(ctx context.Context, id string) (vm.Picture, error) {
	const operation = "take a screenshot"
	file, err := askScreen(ctx, h, operation, id, func(s *session, dom *virt.Domain, has screen) ([]byte, error) {
		if !has.video {
			return nil, vm.ErrNoVideo
		}
		return screenshot(s, dom)
	})
	if err != nil {
		return vm.Picture{}, err
	}
	p, err := picture.Of(file)
	if err != nil {
		return vm.Picture{}, fmt.Errorf("%s of sandbox %s: %w", operation, id, err)
	}
	return p, nil
}

// OpenVNC implements lifecycle.Screens.
func (h *Hypervisor) OpenVNC(ctx context.Context, id string) (net.Conn, error) {
	return askScreen(ctx, h, "connect to VNC", id, func(_ *session, dom *virt.Domain, has screen) (net.Conn, error) {
		if !has.vnc {
			return nil, vm.ErrNoVNC
		}
		f, err := dom.OpenGraphicsFD(0, virt.DOMAIN_OPEN_GRAPHICS_SKIPAUTH)
		if err != nil {
			return nil, err
		}
		conn, err := net.FileConn(f) // a copy
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		if ctx.Err() != nil { // nobody waits for it
			return nil, errors.Join(ctx.Err(), conn.Close())
		}
		return conn, nil
	})
}

// screen is what an active domain has to be looked at.
type screen struct{ video, vnc bool }

// askScreen asks the QEMU of a sandbox, one at a time.
func askScreen[T any](ctx context.Context, h *Hypervisor, operation, id string, do func(*session, *virt.Domain, screen) (T, error)) (T, error) {
	var none T
	unlock, err := h.screenLocks.Lock(ctx, id)
	if err != nil {
		return none, fmt.Errorf("%s of sandbox %s: wait for an earlier call to end: %w", operation, id, err)
	}
	unlock = sync.OnceFunc(unlock)
	begun := make(chan struct{})
	got, err := call(ctx, h.screens, operation, id, func(s *session) (T, error) {
		close(begun)
		defer unlock() // also when nobody waits any more
		dom, err := h.find(s, id)
		if err != nil {
			return none, err
		}
		defer free(dom)
		has, err := screenOf(dom)
		if err != nil {
			return none, err
		}
		return do(s, dom, has)
	})
	select {
	case <-begun:
	default:
		unlock()
	}
	return got, err
}

// screenOf reads it from the domain's XML: libvirt's errors for what is not there have many codes.
func screenOf(dom *virt.Domain) (screen, error) {
	if err := requireActive(dom); err != nil {
		return screen{}, err
	}
	text, err := dom.GetXMLDesc(0)
	if err != nil {
		return screen{}, err
	}
	return parseScreen(text)
}

func parseScreen(text string) (has screen, err error) {
	var def libvirtxml.Domain
	if err := def.Unmarshal(text); err != nil {
		return has, fmt.Errorf("read its XML: %w", err)
	}
	if def.Devices == nil {
		return has, nil
	}
	for _, v := range def.Devices.Videos {
		has.video = has.video || v.Model.Type != string(vm.VideoNone)
	}
	for _, g := range def.Devices.Graphics {
		has.vnc = has.vnc || g.VNC != nil
	}
	return has, nil
}

// screenshot is a file of what the first screen shows, in a format of QEMU's.
func screenshot(s *session, dom *virt.Domain) (file []byte, err error) {
	stream, err := s.NewStream(0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stream.Free()) }()
	if _, err := dom.Screenshot(stream, 0, 0); err != nil {
		return nil, err
	}
	if file, err = receive(stream); err != nil {
		return nil, errors.Join(err, stream.Abort())
	}
	return file, stream.Finish()
}

// receive reads a stream to its end. It is FailedPrecondition for one that is longer than any picture may be.
func receive(stream *virt.Stream) ([]byte, error) {
	var file []byte
	for b := make([]byte, 64<<10); ; {
		n, err := stream.Recv(b)
		file = append(file, b[:max(n, 0)]...)
		switch {
		case errors.Is(err, io.EOF):
			return file, nil
		case err != nil:
			return nil, err
		case len(file) > picture.MaxFile:
			return nil, fmt.Errorf("the screen is too large for a picture: %w", errdefs.ErrFailedPrecondition)
		}
	}
}
