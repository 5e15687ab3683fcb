// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
)

func TestEvents(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	for file, args := range map[string][]string{
		"events.txt":        {"events"},
		"events.json":       {"events", "-o", "json"},
		"events.yaml":       {"events", "-o", "yaml", "web"},
		"events-follow.txt": {"events", "-f", "--since", "e.1", "web"},
	} {
		got := w.ctl(t, args...)
		got.wantOK(t)
		golden(t, file, got.stdout)
	}
	w.ctl(t, "events", "gone", "--since", "e.1").wantOK(t)
	w.ctl(t, "events", "gone").wantError(t, exitFailed, `no pod "gone"`)
	w.fail("Watch", codes.OutOfRange, "watch: vmlet was restarted since: events are lost: watch anew without a token")
	w.ctl(t, "events", "--since", "old.1").wantError(t, exitFailed, "events are lost")
	w.ctl(t, "events", "a", "b").wantError(t, exitUsage, "vmletctl events --help")
	calls := w.called()
	for _, want := range []string{"Watch  since", "Watch " + webID + " since e.1", "Watch gone since e.1"} {
		if !slices.Contains(calls, want) {
			t.Errorf("called %q, not %q", calls, want)
		}
	}
}

func TestCapabilities(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	got := w.ctl(t, "capabilities")
	got.wantOK(t)
	golden(t, "capabilities.txt", got.stdout)
	got = w.ctl(t, "capabilities", "web", "-o", "json")
	got.wantOK(t)
	golden(t, "capabilities.json", got.stdout)
	w.ctl(t, "capabilities", "moon").wantError(t, exitFailed, `no pod "moon"`)
	if calls := w.called(); !slices.Equal(calls, []string{"Capabilities", "Capabilities " + webID}) {
		t.Errorf("called %q", calls)
	}
}
