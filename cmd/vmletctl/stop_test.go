// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
)

func TestStop(t *testing.T) {
	for title, tc := range map[string]struct {
		args   []string
		calls  []string
		stdout string
	}{
		"gives the guest its time":   {[]string{"stop", "web"}, []string{"StopContainer 1111c0020000 30", "StopPodSandbox 1111aaaa0000"}, "web\n"},
		"or what was asked":          {[]string{"stop", "-t", "0", "web"}, []string{"StopContainer 1111c0020000 0", "StopPodSandbox 1111aaaa0000"}, "web\n"},
		"frees the network":          {[]string{"stop", "shop/db"}, []string{"StopPodSandbox 2222aaaa0000"}, "shop/db\n"},
		"stops several, in a row":    {[]string{"stop", "db", "bare"}, []string{"StopPodSandbox 2222aaaa0000", "StopPodSandbox 3333aaaa0000"}, "db\nbare\n"},
		"takes a container's own ID": {[]string{"stop", webBoot1}, []string{"StopContainer 1111c0020000 30", "StopPodSandbox 1111aaaa0000"}, webBoot1 + "\n"},
	} {
		t.Run(title, func(t *testing.T) {
			w := newWorld(t)
			w.addPods("")
			got := w.ctl(t, tc.args...)
			got.wantOK(t)
			if got.stdout != tc.stdout {
				t.Errorf("stdout: %q", got.stdout)
			}
			if calls := w.called(); !slices.Equal(calls, tc.calls) {
				t.Errorf("called %q", calls)
			}
		})
	}
}

func TestRmRefusesWhatRuns(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	w.ctl(t, "rm", "web").wantError(t, exitFailed, "default/web runs", "vmletctl stop web", "-f")
	if calls := w.called(); len(calls) > 0 {
		t.Errorf("called %q", calls)
	}
	got := w.ctl(t, "rm", "-f", "web")
	got.wantOK(t)
	if calls := w.called(); !slices.Equal(calls, []string{"StopPodSandbox 1111aaaa0000", "RemovePodSandbox 1111aaaa0000"}) {
		t.Errorf("called %q", calls)
	}
}

func TestRmGoesOnWithTheOthers(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	got := w.ctl(t, "rm", "moon", "db", "mars", "bare")
	got.wantError(t, exitFailed, `no pod "moon"`, `no pod "mars"`)
	if got.stdout != "db\nbare\n" {
		t.Errorf("removed %q", got.stdout)
	}
}

func TestRmRemovesTheLogsOfItsOwnPodsOnly(t *testing.T) {
	for label, kept := range map[string]bool{madeBy: false, "kubelet": true} {
		folder := t.TempDir()
		w := newWorld(t)
		w.addPods(folder)
		w.sandboxes[0].Labels = map[string]string{madeByLabel: label}
		log := filepath.Join(folder, short(webBoot2)+".log") // the first boot's is gone already
		other := filepath.Join(folder, short(webBoot2)+".logbook")
		for _, path := range []string{log, log + ".20260102-030405", other} {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		w.ctl(t, "rm", "-f", "web").wantOK(t)
		for path, want := range map[string]bool{log: kept, log + ".20260102-030405": kept, other: true} {
			if _, err := os.Stat(path); (err == nil) != want {
				t.Errorf("%s: %s: %v", label, path, err)
			}
		}
	}
}

func TestRmKeepsTheLogOfWhatIsStillThere(t *testing.T) {
	folder := t.TempDir()
	w := newWorld(t)
	w.addPods(folder)
	w.sandboxes[0].Labels = map[string]string{madeByLabel: madeBy}
	log := filepath.Join(folder, short(webBoot2)+".log")
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.fail("RemovePodSandbox", codes.Unavailable, "remove sandbox: libvirt does not answer")
	w.ctl(t, "rm", "-f", "web").wantError(t, exitFailed, "libvirt does not answer")
	if _, err := os.Stat(log); err != nil {
		t.Error(err)
	}
}
