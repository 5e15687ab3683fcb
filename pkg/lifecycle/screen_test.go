// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle/lifecycletest"
	"github.com/vmlet/vmlet/pkg/vm"
)

// showing has VMs that are made from now on show what they have.
func (w *world) showing(video vm.Video, vnc bool) {
	w.cfg.Defaults.Video, w.cfg.Defaults.VNC = video, vnc
	w.svc.SetDefaults(w.cfg.Defaults)
}

func TestScreenshotOrWhyThereIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.showing(vm.VideoNone, false)
		_, blind := w.running("blind")
		w.showing(vm.VideoVGA, false)
		_, c := w.running("a")
		got, err := w.svc.Screenshot(t.Context(), "default/a")
		if err != nil || got.Width == 0 || !strings.HasPrefix(string(got.PNG), "\x89PNG") {
			t.Errorf("got %+v, %v", got, err)
		}
		_, err = w.svc.Screenshot(t.Context(), blind)
		mustBe(t, err, errdefs.ErrFailedPrecondition)
		if err == nil || !strings.Contains(err.Error(), "defaults.video") {
			t.Errorf("it names no key: %v", err)
		}
		w.hypervisor.FailNext("Screenshot", context.DeadlineExceeded)
		_, err = w.svc.Screenshot(t.Context(), c)
		mustBe(t, err, context.DeadlineExceeded)
		_, err = w.svc.Screenshot(t.Context(), "default/nobody")
		mustBe(t, err, errdefs.ErrNotFound)
	})
}

// phone is a client of VNC.
type phone struct {
	io.Reader
	io.Writer
}

func TestVNC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.showing(vm.VideoVGA, false)
		_, before := w.running("before")
		connect := func(ctx context.Context, ref string, client io.ReadWriter) (opened bool, err error) {
			err = w.svc.VNC(ctx, ref, func() error { opened = true; return nil }, client)
			return opened, err
		}
		refused := func(ref, word string) {
			t.Helper()
			opened, err := connect(t.Context(), ref, nil)
			mustBe(t, err, errdefs.ErrFailedPrecondition)
			if err == nil || !strings.Contains(err.Error(), word) || opened {
				t.Errorf("%q is not in %v; opened: %v", word, err, opened)
			}
		}
		refused(before, "set defaults.vnc")
		w.showing(vm.VideoVGA, true)
		refused(before, "create the VM anew")

		sb, _ := w.running("a")
		theirs, says := io.Pipe()
		hears, ours := io.Pipe()
		ended := make(chan error, 1)
		go func() {
			opened, err := connect(t.Context(), sb, phone{theirs, ours})
			if !opened {
				err = errors.Join(err, errors.New("it was not opened"))
			}
			ended <- err
		}()
		hear := func(want string) {
			t.Helper()
			b := make([]byte, len(want))
			if _, err := io.ReadFull(hears, b); err != nil || string(b) != want {
				t.Fatalf("heard %q, %v", b, err)
			}
		}
		hear(lifecycletest.VNCGreeting)
		if _, err := io.WriteString(says, "hello"); err != nil {
			t.Fatal(err)
		}
		hear("hello")
		w.showing(vm.VideoVGA, false)
		refused(sb, "set defaults.vnc")
		w.showing(vm.VideoVGA, true)
		w.hypervisor.PowerOff(sb)
		if err := <-ended; err != nil {
			t.Errorf("VNC ended with the VM as %v", err)
		}
		_ = says.Close() //nolint:errcheck // a pipe

		sb, _ = w.running("b")
		if _, err := connect(t.Context(), sb, phone{strings.NewReader(""), io.Discard}); err != nil {
			t.Errorf("a client that closes its side: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		blocked, _ := io.Pipe()
		go func() {
			_, err := connect(ctx, sb, phone{blocked, io.Discard})
			ended <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("a client that goes: %v", err)
		}
		_ = blocked.Close() //nolint:errcheck // a pipe
	})
}
