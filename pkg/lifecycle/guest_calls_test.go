// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// inGuest are the calls, each of which succeeds in a guest that has what they are about.
func (w *world) inGuest() map[string]func(ctx context.Context, ref string) error {
	return map[string]func(ctx context.Context, ref string) error{
		"GuestInfo": func(ctx context.Context, ref string) error { _, err := w.svc.GuestInfo(ctx, ref); return err },
		"ReadGuestFile": func(ctx context.Context, ref string) error {
			return w.svc.ReadGuestFile(ctx, ref, vm.ReadGuestFile{Path: "/f"}, func(vm.GuestFile) (io.Writer, error) { return io.Discard, nil })
		},
		"WriteGuestFile": func(ctx context.Context, ref string) error {
			return w.svc.WriteGuestFile(ctx, ref, vm.WriteGuestFile{Path: "/f", Overwrite: true, Parents: true}, strings.NewReader("x"))
		},
		"AuthorizedKeys": func(ctx context.Context, ref string) error { _, err := w.svc.AuthorizedKeys(ctx, ref, "u"); return err },
		"SetAuthorizedKeys": func(ctx context.Context, ref string) error {
			return w.svc.SetAuthorizedKeys(ctx, ref, vm.KeysChange{User: "u", Keys: []string{"k"}, Mode: vm.KeysAdd})
		},
		"SetGuestPassword": func(ctx context.Context, ref string) error {
			return w.svc.SetGuestPassword(ctx, ref, vm.GuestPassword{User: "u", Password: "p"})
		},
	}
}

func TestGuestCallsReachTheGuest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		w.guest.AddUser(sb, "u")
		f := vm.WriteGuestFile{Path: "/etc/motd", Mode: 0o640, UID: 7, Parents: true}
		must(t, w.svc.WriteGuestFile(t.Context(), c, f, strings.NewReader("hello")))
		var told vm.GuestFile
		var got bytes.Buffer
		must(t, w.svc.ReadGuestFile(t.Context(), sb, vm.ReadGuestFile{Path: "/etc/motd", Offset: 1, Limit: 3}, func(f vm.GuestFile) (io.Writer, error) {
			told = f
			return &got, nil
		}))
		if got.String() != "ell" || told.Size != 5 || told.Mode != 0o640 || told.UID != 7 {
			t.Errorf("%q of %+v", &got, told)
		}
		must(t, w.svc.SetAuthorizedKeys(t.Context(), sb, vm.KeysChange{User: "u", Keys: []string{"k"}, Mode: vm.KeysAdd}))
		if keys, err := w.svc.AuthorizedKeys(t.Context(), sb, "u"); err != nil || len(keys) != 1 || keys[0] != "k" {
			t.Errorf("%q, %v", keys, err)
		}
		must(t, w.svc.SetGuestPassword(t.Context(), sb, vm.GuestPassword{User: "u", Password: "p", Crypted: true}))
		if p := w.guest.Password(sb, "u"); p.Password != "p" || !p.Crypted {
			t.Error("it is another password")
		}
		if info, err := w.svc.GuestInfo(t.Context(), sb); err != nil || info.BootID != "boot-0" {
			t.Errorf("%+v, %v", info, err)
		}
	})
}

// A guest that cannot answer is not waited for.
func TestGuestCallsOfAVMThatCannotAnswerAreRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		must(t, w.svc.Pause(t.Context(), sb))
		began := time.Now()
		for name, call := range w.inGuest() {
			if err := call(t.Context(), sb); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "it is paused") {
				t.Errorf("%s of a paused VM: %v", name, err)
			}
		}
		must(t, w.svc.Resume(t.Context(), sb))
		stopping, c := w.running("b")
		w.hypervisor.IgnorePowerButton()
		stopped := make(chan error, 1)
		go func() { stopped <- w.svc.StopContainer(t.Context(), c, time.Hour) }()
		synctest.Wait()
		for name, call := range w.inGuest() {
			if err := call(t.Context(), stopping); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "it is being stopped") {
				t.Errorf("%s of a VM that stops: %v", name, err)
			}
			if err := call(t.Context(), "moon"); !errdefs.IsNotFound(err) {
				t.Errorf("%s of nothing: %v", name, err)
			}
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("they waited for %v", waited)
		}
		must(t, w.svc.StopContainer(t.Context(), c, 0))
		<-stopped //nolint:errcheck // what counts is the end of the forced one
	})
}

func TestGuestCallsWaitForAnAgentAndNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		w.guest.AddUser(sb, "u")
		w.guest.SetSilent(sb, true)
		for name, call := range w.inGuest() {
			began := time.Now()
			if err := call(t.Context(), sb); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "no agent answered") || time.Since(began) != time.Minute {
				t.Errorf("%s: %v after %v", name, err, time.Since(began))
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := call(ctx, sb); !errdefs.IsUnavailable(err) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
			cancel()
		}
		done := make(chan error, 1)
		go func() { done <- w.inGuest()["WriteGuestFile"](t.Context(), sb) }()
		synctest.Wait()
		w.guest.SetSilent(sb, false)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A client that takes its time holds up nobody.
func TestAFileThatIsWrittenSlowlyHoldsUpNoStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		slow, client := io.Pipe()
		done := make(chan error, 1)
		go func() {
			done <- w.svc.WriteGuestFile(t.Context(), sb, vm.WriteGuestFile{Path: "/f", Parents: true}, slow)
		}()
		synctest.Wait()
		must(t, w.svc.StopContainer(t.Context(), c, 0))
		must(t, client.CloseWithError(errors.New("the client has gone")))
		if err := <-done; err == nil {
			t.Error("it was written")
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
