// SPDX-License-Identifier: Apache-2.0

//nolint:thelper // these are the tests themselves: a failure is where it is found
package lifecycletest

import (
	"bytes"
	"errors"
	"image/png"
	"io"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

// ScreensHost is what RunScreens plays with: the screens of a hypervisor's machines.
type ScreensHost struct {
	HypervisorHost

	Screens lifecycle.Screens
}

// RunScreens checks what lifecycle.Screens promises, on machines like those of RunHypervisor.
func RunScreens(t *testing.T, newHost func(t *testing.T) ScreensHost) {
	t.Helper()
	for name, run := range map[string]func(*hypervisorTrial, lifecycle.Screens){
		"a machine with a screen":       aScreen,
		"a machine without one":         noScreen,
		"no machine that runs":          noMachineToSee,
		"a VNC client":                  aVNCClient,
		"the end of a machine with VNC": theEndOfVNC,
	} {
		t.Run(name, func(t *testing.T) {
			host := newHost(t)
			trial := &hypervisorTrial{T: t, h: host.Hypervisor, id: randomID()}
			defer trial.cleanUp()
			run(trial, host.Screens)
		})
	}
}

// beginWith starts a machine, halted, that shows what it has.
func (t *hypervisorTrial) beginWith(video vm.Video, vnc bool) {
	t.Helper()
	m := t.machine()
	m.Video, m.VNC = video, vnc
	t.must(t.h.Define(t.Context(), m))
	t.must(t.h.Start(t.Context(), t.id))
}

func aScreen(t *hypervisorTrial, s lifecycle.Screens) {
	t.beginWith(vm.VideoVGA, false)
	picture, err := s.Screenshot(t.Context(), t.id)
	t.must(err)
	img, err := png.Decode(bytes.NewReader(picture.PNG))
	t.must(err)
	if size := img.Bounds().Size(); size.X != picture.Width || size.Y != picture.Height || size.X == 0 {
		t.Errorf("a picture of %v is told as %dx%d", size, picture.Width, picture.Height)
	}
	_, err = s.OpenVNC(t.Context(), t.id)
	t.refused("OpenVNC", err, vm.ErrNoVNC)
}

func noScreen(t *hypervisorTrial, s lifecycle.Screens) {
	t.beginWith(vm.VideoNone, false)
	_, err := s.Screenshot(t.Context(), t.id)
	t.refused("Screenshot", err, vm.ErrNoVideo)
	t.refused("Screenshot", err, errdefs.ErrFailedPrecondition)
	_, err = s.OpenVNC(t.Context(), t.id)
	t.refused("OpenVNC", err, vm.ErrNoVNC)
	t.refused("OpenVNC", err, errdefs.ErrFailedPrecondition)
}

func noMachineToSee(t *hypervisorTrial, s lifecycle.Screens) {
	ask := func(class error) {
		_, err := s.Screenshot(t.Context(), t.id)
		t.refused("Screenshot", err, class)
		_, err = s.OpenVNC(t.Context(), t.id)
		t.refused("OpenVNC", err, class)
	}
	ask(errdefs.ErrNotFound)
	t.must(t.h.Define(t.Context(), t.machine()))
	ask(errdefs.ErrFailedPrecondition)
}

func aVNCClient(t *hypervisorTrial, s lifecycle.Screens) {
	t.beginWith(vm.VideoVGA, true)
	for range 2 { // one leaves room for another
		conn, err := s.OpenVNC(t.Context(), t.id)
		t.must(err)
		t.must(conn.SetDeadline(time.Now().Add(hypervisorPatience)))
		greeting := make([]byte, len(VNCGreeting))
		if _, err := io.ReadFull(conn, greeting); err != nil || string(greeting) != VNCGreeting {
			t.Fatalf("the server says %q, %v", greeting, err)
		}
		if _, err := io.WriteString(conn, VNCGreeting); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Errorf("the server does not answer: %v", err)
		}
		t.must(conn.Close())
	}
}

func theEndOfVNC(t *hypervisorTrial, s lifecycle.Screens) {
	t.beginWith(vm.VideoVGA, true)
	conn, err := s.OpenVNC(t.Context(), t.id)
	t.must(err)
	defer conn.Close() //nolint:errcheck // its other end has gone
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, conn)
		ended <- err
	}()
	t.must(t.h.Destroy(t.Context(), t.id))
	select {
	case err := <-ended:
		if err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the connection ended with %v", err)
		}
	case <-time.After(hypervisorPatience):
		t.Fatal("the connection has outlived QEMU")
	}
}
