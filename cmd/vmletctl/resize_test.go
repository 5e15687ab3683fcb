// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"
)

func TestResizeAVM(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	for file, args := range map[string][]string{
		"resize.txt":  {"resize", "web", "--cpus", "4", "--memory", "2G", "--cpuset", "0-1"},
		"resize.json": {"resize", "web", "--memory", "2G", "-o", "json"},
	} {
		got := w.ctl(t, args...)
		got.wantOK(t)
		golden(t, file, got.stdout)
	}
	want := "Resize " + webID + ` to 4 CPUs and 2147483648 bytes on "0-1" of "" with 0 within 0 ms`
	if calls := w.called(); !slices.Contains(calls, want) {
		t.Errorf("called %q, not %q", calls, want)
	}
}

// A script must see that it was not given all.
func TestAResizeThatIsDoneInPartFails(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	got := w.ctl(t, "resize", "web", "--memory", "512M", "--wait", "5s")
	if got.code != 1 || !strings.Contains(got.stderr, "done in part only") || !strings.Contains(got.stdout, "700.0 MiB") {
		t.Errorf("exit code %d, said %q and %q", got.code, got.stdout, got.stderr)
	}
	if got := w.ctl(t, "resize", "web", "--cpus", "1", "--wait", "-5s"); got.code != 2 {
		t.Errorf("a negative wait: exit code %d", got.code)
	}
}
