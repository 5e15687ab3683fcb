// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
)

func TestReboot(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	for file, args := range map[string][]string{
		"reboot.txt":       {"reboot", "web", "--delay", "1500ms", "--wait", "1m"},
		"reboot.json":      {"reboot", "web", "-o", "json"},
		"reboot-reset.txt": {"reboot", "web", "--mode", "reset"},
	} {
		got := w.ctl(t, args...)
		got.wantOK(t)
		golden(t, file, got.stdout)
	}
	calls := w.called()
	for _, want := range []string{
		"Reboot " + webID + " REBOOT_MODE_UNSPECIFIED after 1500 ms within 60000 ms",
		"Reboot " + webID + " REBOOT_MODE_RESET after 0 ms within 0 ms",
	} {
		if !slices.Contains(calls, want) {
			t.Errorf("called %q, not %q", calls, want)
		}
	}
}

func TestRebootThatFails(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	w.fail("Reboot", codes.DeadlineExceeded, "reboot the VM of sandbox 1: the guest was not seen to boot anew in time")
	w.ctl(t, "reboot", "web").wantError(t, exitFailed, "not seen to boot anew")
	w.ctl(t, "reboot", "--mode", "kick", "web").wantError(t, exitUsage, `"kick" is neither agent, acpi nor reset`)
	w.ctl(t, "reboot", "--wait", "-1s", "web").wantError(t, exitUsage, "must not be negative")
	w.ctl(t, "reboot", "moon").wantError(t, exitFailed, `no pod "moon"`)
	w.ctl(t, "reboot").wantError(t, exitUsage, "vmletctl reboot --help")
}

func TestPauseAndResume(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	got := w.ctl(t, "pause", "web", "moon")
	got.wantError(t, exitFailed, `no pod "moon"`)
	if got.stdout != "web\n" {
		t.Errorf("got %q", got.stdout)
	}
	w.ctl(t, "resume", "web").wantOK(t)
	if calls := w.called(); !slices.Equal(calls, []string{"Pause " + webID, "Resume " + webID}) {
		t.Errorf("called %q", calls)
	}
}
