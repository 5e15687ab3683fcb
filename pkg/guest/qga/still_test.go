// SPDX-License-Identifier: Apache-2.0

package qga

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// freezing is an agent with so many file systems, as QEMU's qga/commands-posix.c has it.
func freezing(fileSystems string, asked *[]string) *canned {
	frozen := false
	return &canned{answer: func(_ context.Context, _, execute string) (string, error) {
		*asked = append(*asked, execute)
		switch {
		case execute == "guest-fsfreeze-thaw" && frozen:
			frozen = false
			return `{"return":` + fileSystems + `}`, nil
		case execute == "guest-fsfreeze-thaw":
			return `{"return":0}`, nil
		case frozen:
			return "", errors.New("internal error: unable to execute QEMU agent command '" + execute + "': Command " + execute + " has been disabled: the agent is in frozen state")
		case execute == "guest-fsfreeze-freeze":
			frozen = true
			return `{"return":` + fileSystems + `}`, nil
		}
		return `{"return":{}}`, nil
	}}
}

func TestFreezeAndThaw(t *testing.T) {
	var asked []string
	a := New(freezing("3", &asked))
	for range 2 {
		if n, err := a.Freeze(t.Context(), "a", time.Minute); n != 3 || err != nil {
			t.Errorf("frozen %d, %v", n, err)
		}
		if _, err := a.Freeze(t.Context(), "a", time.Minute); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("frozen twice: %v", err)
		}
		for _, want := range []int{3, 0} {
			if n, err := a.Thaw(t.Context(), "a"); n != want || err != nil {
				t.Errorf("thawed %d, want %d, %v", n, want, err)
			}
		}
	}
	if !slices.Contains(asked, "guest-fsfreeze-thaw") {
		t.Errorf("asked was %v", asked)
	}
	nonsense := New(freezing("-1", &asked))
	if _, err := nonsense.Freeze(t.Context(), "a", time.Minute); !errdefs.IsInternal(err) {
		t.Errorf("of a guest that says -1: %v", err)
	}
}

// An agent without a hardware clock to write to says that it has failed, and has set the time.
func TestSetClock(t *testing.T) {
	now := time.Unix(1700000000, 0)
	for name, tc := range map[string]struct {
		says  string
		class error
	}{
		"it is done":                         {`{"return":{}}`, nil},
		"there is no hardware clock":         {`{"error":{"class":"GenericError","desc":"hwclock failed to set hardware clock to system time"}}`, nil},
		"it could not, and the time is old":  {`{"error":{"class":"GenericError","desc":"no"}}`, errdefs.ErrUnknown},
		"it may not, and nor may it be read": {`{"error":{"class":"CommandNotFound","desc":"The command guest-set-time has been disabled"}}`, errdefs.ErrFailedPrecondition},
	} {
		t.Run(name, func(t *testing.T) {
			a := New(&canned{answer: func(_ context.Context, _, execute string) (string, error) {
				switch {
				case execute == "guest-set-time":
					return tc.says, nil
				case execute == "guest-get-time" && tc.class == nil:
					return `{"return":1700000001000000000}`, nil
				case execute == "guest-get-time":
					return `{"return":1600000000000000000}`, nil
				}
				return `{"return":{}}`, nil
			}})
			if err := a.SetClock(t.Context(), "a", func() time.Time { return now }); tc.class == nil && err != nil || tc.class != nil && !errors.Is(err, tc.class) {
				t.Errorf("got %v", err)
			}
		})
	}
}
