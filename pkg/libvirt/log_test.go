// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

const (
	starting = "2026-11-21 08:16:52.001+0000: starting up libvirt version: 9.0.0, package: 9.0.0-4, qemu version: 7.2.22\n" +
		"LC_ALL=C \\\nPATH=/bin \\\n/usr/bin/qemu-system-x86_64 \\\n-name guest=vmlet-0123456789ab\n"
	ending = "2026-11-21T08:16:53.207273Z qemu-system-x86_64: terminating on signal 15 from pid 10639 (/usr/sbin/libvirtd)\n" +
		"2026-11-21 08:16:53.405+0000: shutting down, reason=destroyed\n"
)

func TestLogTellsHowTheLastRunEnded(t *testing.T) {
	at := time.Date(2026, 11, 21, 8, 16, 53, 405e6, time.UTC)
	for name, tc := range map[string]struct {
		log  string
		want vm.LastShutdown
	}{
		"one run": {starting + ending, vm.LastShutdown{Reason: "destroyed", At: at}},
		"several runs": {
			starting + ending + starting + "2026-11-21 09:00:00.000+0000: shutting down, reason=crashed\n",
			vm.LastShutdown{Reason: "crashed", At: time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)},
		},
		"start no longer in the tail":  {ending, vm.LastShutdown{Reason: "destroyed", At: at}},
		"noise after the end":          {starting + ending + "qemu-system-x86_64: warning\n", vm.LastShutdown{Reason: "destroyed", At: at}},
		"last line without a line end": {strings.TrimSuffix(starting+ending, "\n"), vm.LastShutdown{Reason: "destroyed", At: at}},
		"another time zone": {
			"2026-11-21 10:16:53.405+0200: shutting down, reason=destroyed\n", vm.LastShutdown{Reason: "destroyed", At: at},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseLog([]byte(tc.log))
			if err != nil || got != tc.want {
				t.Errorf("got %+v, %v; want %+v", got, err, tc.want)
			}
		})
	}
}

func TestLogWithoutAnEndIsNotFound(t *testing.T) {
	for name, log := range map[string]string{
		"empty":                      "",
		"running":                    starting,
		"power lost in the last run": starting + ending + starting,
		"what QEMU prints of it":     "qemu-system-x86_64: 2026-11-21 08:16:53.405+0000: shutting down, reason=destroyed\n",
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := parseLog([]byte(log)); !errors.Is(err, errdefs.ErrNotFound) {
				t.Errorf("got %+v, %v; want NotFound", got, err)
			}
		})
	}
}

func TestTailOfALargeLogBeginsWithAWholeLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "large.log")
	line := strings.Repeat("x", 99) + "\n"
	if err := os.WriteFile(path, []byte(strings.Repeat(line, logTail/100+10)+ending), 0o600); err != nil {
		t.Fatal(err)
	}
	tail, err := readTail(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(tail) > logTail || !strings.HasPrefix(string(tail), line) || !strings.HasSuffix(string(tail), ending) {
		t.Errorf("a tail of %d bytes, beginning with %.20q", len(tail), tail)
	}
}

func TestMissingLogIsNotFound(t *testing.T) {
	if _, err := readTail(filepath.Join(t.TempDir(), "none.log")); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestRemoveLogsTakesRotatedOnesAndNoOthers(t *testing.T) {
	dir := t.TempDir()
	own := vm.DomainName(testID) + ".log"
	share := vm.DomainName(testID) + "-ua-share-virtiofsd.log"
	for _, name := range []string{own, own + ".0", own + ".12", share, "x" + own, own + ".txt", "vmlet-other.log"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // idempotent
		if err := removeLogs(dir, testID); err != nil {
			t.Fatal(err)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 3 {
		t.Errorf("left are %v, %v; want the 3 that are not this domain's", left, err)
	}
}
