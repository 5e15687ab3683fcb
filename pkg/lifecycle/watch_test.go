// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

// watcher is a client of Watch.
type watcher struct {
	mu   sync.Mutex
	got  []vm.WatchMessage
	end  context.CancelFunc
	done chan error
}

func (w *world) watch(ref, token string) *watcher {
	ctx, end := context.WithCancel(context.Background())
	c := &watcher{end: end, done: make(chan error, 1)}
	go func() {
		c.done <- w.svc.Watch(ctx, ref, token, func(m vm.WatchMessage) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.got = append(c.got, m)
			return nil
		})
	}()
	return c
}

// over is how a watch ends that is to end by itself.
func (c *watcher) over(t *testing.T) error {
	t.Helper()
	select {
	case err := <-c.done:
		return err
	case <-time.After(time.Minute):
		c.end()
		t.Fatalf("the watch goes on, and says %v", <-c.done)
		return nil
	}
}

// words are the messages so far, the latest token aside.
func (c *watcher) words() (words []string, token string) {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.got {
		if m.Token != "" {
			token = m.Token
		}
		switch {
		case m.Event != nil:
			words = append(words, strings.TrimSpace(fmt.Sprintf("%s %s %s", m.Event.Pod, m.Event.Kind, m.Event.Subject+m.Event.BootID+m.Event.Reason)))
		case m.Present != nil:
			words = append(words, fmt.Sprintf("%s is %s", m.Present.Pod, m.Present.State))
		default:
			words = append(words, "synced")
		}
	}
	return words, token
}

func (c *watcher) want(t *testing.T, want ...string) (token string) {
	t.Helper()
	got, token := c.words()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	return token
}

// stop ends a watch.
func (c *watcher) stop(t *testing.T) {
	t.Helper()
	c.end()
	if err := <-c.done; !errors.Is(err, context.Canceled) {
		t.Errorf("the watch ended with %v", err)
	}
}

func TestALifeIsWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		all := w.watch("", "")
		all.want(t, "synced")
		sb, c := w.running("a")
		all.want(t, "synced", "a absent", "a created", "a running", "a agent-up boot-0")
		for _, call := range []func(context.Context, string) error{w.svc.Pause, w.svc.Pause, w.svc.Resume, w.svc.Resume} {
			if err := call(t.Context(), sb); err != nil {
				t.Fatal(err)
			}
		}
		if got := <-w.rebooting(sb, vm.RebootRequest{Mode: vm.RebootAgent}); got.err != nil {
			t.Fatal(got.err)
		}
		all.want(t, "synced", "a absent", "a created", "a running", "a agent-up boot-0", "a paused", "a resumed",
			"a rebooting", "a rebooted boot-1", "a agent-up boot-1")
		one := w.watch("default/a", "")
		one.want(t, "a is running", "synced")
		w.hypervisor.PowerOff(sb)
		w.exit(c)
		if err := w.svc.RemoveContainer(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		w.sandbox("b")
		if err := w.svc.RemoveSandbox(t.Context(), sb); err != nil {
			t.Fatal(err)
		}
		one.want(t, "a is running", "synced", "a agent-down boot-1", "a exited Completed", "a absent", "a removed")
		if err := <-one.done; err != nil {
			t.Errorf("the watch of one VM ended with %v", err)
		}
		got, _ := all.words()
		if diff := cmp.Diff([]string{"a agent-down boot-1", "a exited Completed", "a absent", "b absent", "a removed"}, got[10:]); diff != "" {
			t.Error(diff)
		}
		all.stop(t)
	})
}

// An event tells what can be read at that moment: it comes when it is on record.
func TestWhatAnEventTellsIsOnRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		seen := map[vm.VMEventKind]bool{}
		wrong := make(chan string, 64)
		ctx, end := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- w.svc.Watch(ctx, "", "", func(m vm.WatchMessage) error {
				if m.Event == nil {
					return nil
				}
				seen[m.Event.Kind] = true
				c, err := w.store.Containers().Get(m.Event.ContainerID)
				want := map[vm.VMEventKind]vm.ContainerState{
					vm.VMCreatedEvent: vm.ContainerCreated, vm.VMRunningEvent: vm.ContainerRunning, vm.VMExitedEvent: vm.ContainerExited,
				}[m.Event.Kind]
				if want != "" && (err != nil || c.Status.State != want) {
					wrong <- fmt.Sprintf("%s was told of a container that is %s, %v", m.Event.Kind, c.Status.State, err)
				}
				return nil
			})
		}()
		synctest.Wait()
		sb := w.sandbox("a")
		c := w.created(sb, 0)
		synctest.Wait()
		if err := w.svc.StartContainer(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.hypervisor.PowerOff(sb)
		w.exit(c)
		synctest.Wait()
		end()
		mustBe(t, <-done, context.Canceled)
		close(wrong)
		for text := range wrong {
			t.Error(text)
		}
		for _, kind := range []vm.VMEventKind{vm.VMCreatedEvent, vm.VMRunningEvent, vm.VMExitedEvent} {
			if !seen[kind] {
				t.Errorf("%s was not told", kind)
			}
		}
	})
}

func TestAWatchGoesOnBehindItsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		first := w.watch("", "")
		first.want(t, "synced")
		w.sandbox("a")
		token := first.want(t, "synced", "a absent")
		first.stop(t)
		b := w.sandbox("b")
		if err := w.svc.RemoveSandbox(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		again := w.watch("", token)
		again.want(t, "b absent", "b removed", "synced")
		again.stop(t)
		// What is gone by now was there then.
		gone := w.watch("default/b", token)
		gone.want(t, "b absent", "b removed")
		if err := <-gone.done; err != nil {
			t.Error(err)
		}
		mustBe(t, <-w.watch("default/b", "").done, errdefs.ErrNotFound)
		mustBe(t, <-w.watch("default/c", token).done, errdefs.ErrNotFound)
		for _, bad := range []string{"x", "x.1", token + "x", "." + token} {
			mustBe(t, <-w.watch("", bad).done, errdefs.ErrInvalidArgument)
		}
		mustBe(t, w.watch("", token+"00").over(t), errdefs.ErrOutOfRange)

		w.restart()
		mustBe(t, w.watch("", token).over(t), errdefs.ErrOutOfRange)
		anew := w.watch("", "")
		anew.want(t, "a is absent", "synced")
		anew.stop(t)
	})
}

func TestWhatRunsAfterARestartIsToldAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		other, _ := w.running("b")
		w.hypervisor.SetAgent(sb, true)
		if err := w.svc.Pause(t.Context(), sb); err != nil {
			t.Fatal(err)
		}
		w.die()
		w.hypervisor.PowerOff(other)
		w.start()
		synctest.Wait()
		after := w.watch("", "")
		after.want(t, "a is paused", "b is exited", "synced")
		if p := after.got[0].Present; !p.QGA || !p.Answering || p.BootID != "boot-0" {
			t.Errorf("its agents: %+v", p)
		}
		if err := w.svc.Resume(t.Context(), sb); err != nil {
			t.Fatal(err)
		}
		after.want(t, "a is paused", "b is exited", "synced", "a resumed")
		after.stop(t)
	})
}

func TestASlowWatcherHoldsUpNobodyAndIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb := w.sandbox("a")
		block, ctx := make(chan struct{}), t.Context()
		slow := make(chan error, 1)
		go func() {
			slow <- w.svc.Watch(ctx, "", "", func(vm.WatchMessage) error { <-block; return nil })
		}()
		synctest.Wait()
		quick := w.watch("", "")
		quick.want(t, "a is absent", "synced")
		for range lifecycle.NewsKept + 100 {
			w.svc.Tell(vm.VMEvent{SandboxID: sb, Kind: vm.NICAttachedEvent, Subject: "eth1"})
			synctest.Wait()
		}
		got, token := quick.words()
		if len(got) != lifecycle.NewsKept+102 || got[len(got)-1] != "a nic-attached eth1" {
			t.Errorf("the quick one had %d messages", len(got))
		}
		close(block)
		mustBe(t, <-slow, errdefs.ErrOutOfRange)
		quick.stop(t)
		late := w.watch("", token)
		late.want(t, "synced")
		late.stop(t)
	})
}

// Who watches one VM of many has a token that is young enough.
func TestAQuietWatchHasBookmarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb := w.sandbox("a")
		w.sandbox("b")
		quiet := w.watch("default/b", "")
		old := quiet.want(t, "b is absent", "synced")
		for range lifecycle.NewsKept {
			w.svc.Tell(vm.VMEvent{SandboxID: sb, Kind: vm.DiskResizedEvent})
			synctest.Wait()
		}
		token := quiet.want(t, "b is absent", "synced", "synced", "synced", "synced", "synced")
		quiet.stop(t)
		for range 10 {
			w.svc.Tell(vm.VMEvent{SandboxID: sb, Kind: vm.DiskResizedEvent})
		}
		mustBe(t, w.watch("default/b", old).over(t), errdefs.ErrOutOfRange)
		again := w.watch("default/b", token)
		again.want(t, "synced")
		again.stop(t)
	})
}

func TestHowARebootIsWatched(t *testing.T) {
	for name, tc := range map[string]struct {
		silent bool
		do     func(w *world, sb string)
		want   []string
	}{
		"by the guest itself": {
			do:   func(w *world, sb string) { w.hypervisor.Reboot(sb); w.guest.Boot(sb) },
			want: []string{"a rebooted boot-1", "a agent-up boot-1"},
		},
		"by the guest itself, without an agent": {
			silent: true,
			do:     func(w *world, sb string) { w.hypervisor.Reboot(sb); time.Sleep(time.Minute); w.hypervisor.Reboot(sb) },
			want:   []string{"a rebooted", "a rebooted"},
		},
		"by ACPI, without an agent": {
			silent: true,
			do:     func(w *world, sb string) { <-w.rebooting(sb, vm.RebootRequest{Mode: vm.RebootACPI}) },
			want:   []string{"a rebooting", "a rebooted"},
		},
		"in vain": {
			do: func(w *world, sb string) {
				w.hypervisor.IgnorePowerButton()
				<-w.rebooting(sb, vm.RebootRequest{Mode: vm.RebootACPI, Wait: time.Minute})
			},
			want: []string{"a rebooting", "a reboot-failed"},
		},
		"another mode takes its place": {
			do: func(w *world, sb string) {
				w.hypervisor.IgnorePowerButton()
				w.rebooting(sb, vm.RebootRequest{Mode: vm.RebootACPI})
				<-w.rebooting(sb, vm.RebootRequest{Mode: vm.RebootAgent})
			},
			want: []string{"a rebooting", "a rebooting", "a rebooted boot-1", "a agent-up boot-1"},
		},
		"an agent that goes and comes": {
			do:   func(w *world, sb string) { w.guest.SetSilent(sb, true); synctest.Wait(); w.guest.SetSilent(sb, false) },
			want: []string{"a agent-down boot-0", "a agent-up boot-0"},
		},
		"qemu-guest-agent": {
			do:   func(w *world, sb string) { w.hypervisor.SetAgent(sb, true); w.hypervisor.SetAgent(sb, false) },
			want: []string{"a agent-up", "a agent-down"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				if tc.silent {
					w.guest.Mute()
				}
				sb, _ := w.running("a")
				synctest.Wait()
				c := w.watch(sb, "")
				c.want(t, "a is running", "synced")
				tc.do(w, sb)
				c.want(t, append([]string{"a is running", "synced"}, tc.want...)...)
				c.stop(t)
			})
		})
	}
}

// What is on record first is only an intent.
func TestAPauseIsToldWhenItIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, _ := w.running("a")
		synctest.Wait()
		c := w.watch(sb, "")
		c.want(t, "a is running", "synced")
		w.hypervisor.FailNext("Pause", errdefs.ErrUnavailable)
		mustBe(t, w.svc.Pause(t.Context(), sb), errdefs.ErrUnavailable)
		c.want(t, "a is running", "synced")
		if err := w.svc.Pause(t.Context(), sb); err != nil {
			t.Fatal(err)
		}
		c.want(t, "a is running", "synced", "a paused")
		c.stop(t)
	})
}
