// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// guestStill is the part of the contract that is about a guest that stands still. The environment's file systems may be
// pretended ones.
func guestStill() map[string]func(*testing.T, GuestEnv) {
	return map[string]func(*testing.T, GuestEnv){
		"what is frozen is thawed, once":       frozenIsThawed,
		"what nobody thaws does so by itself":  frozenThawsByItself,
		"a clock is set to what it is by then": clockIsSet,
		"a silent guest is not frozen":         silentGuestIsNotFrozen,
	}
}

func mustThaw(t *testing.T, env GuestEnv, want int) {
	t.Helper()
	if n, err := env.Guest.Thaw(t.Context(), env.Answering); err != nil || n != want {
		t.Errorf("%d file systems were thawed, want %d, %v", n, want, err)
	}
}

func frozenIsThawed(t *testing.T, env GuestEnv) {
	mustThaw(t, env, 0)
	for range 2 {
		n, err := env.Guest.Freeze(t.Context(), env.Answering, time.Minute)
		if err != nil || n == 0 {
			t.Fatalf("%d file systems were frozen, %v", n, err)
		}
		if _, err := env.Guest.Freeze(t.Context(), env.Answering, time.Minute); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("frozen twice: %v", err)
		}
		mustThaw(t, env, n)
		mustThaw(t, env, 0)
	}
}

func frozenThawsByItself(t *testing.T, env GuestEnv) {
	if _, err := env.Guest.Freeze(t.Context(), env.Answering, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for { // there is no other way to ask for it that does not thaw
		n, err := env.Guest.Freeze(t.Context(), env.Answering, time.Minute)
		if err == nil {
			mustThaw(t, env, n)
			return
		}
		if !errdefs.IsFailedPrecondition(err) {
			t.Fatal(err)
		}
	}
}

func clockIsSet(t *testing.T, env GuestEnv) {
	asked := 0
	err := env.Guest.SetClock(t.Context(), env.Answering, func() time.Time {
		asked++
		return time.Now()
	})
	if err != nil || asked != 1 {
		t.Errorf("the time was asked for %d times, %v", asked, err)
	}
}

func silentGuestIsNotFrozen(t *testing.T, env GuestEnv) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := env.Guest.Freeze(ctx, env.Silent, time.Minute); !errdefs.IsUnavailable(err) && !errdefs.IsDeadlineExceeded(err) {
		t.Errorf("got %v", err)
	}
}
