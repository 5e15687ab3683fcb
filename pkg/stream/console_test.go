// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func quietWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, rand.New(rand.NewPCG(0, 0)))
	t.Cleanup(w.die)
	return w
}

// mustCopy copies, which must not fail.
func (w *world) mustCopy() {
	w.t.Helper()
	if err := w.copy(false); err != nil {
		w.t.Fatal(err)
	}
}

// wantLines expects entries in the newest log, in the form of lines.
func (w *world) wantLines(want ...string) {
	w.t.Helper()
	b, err := os.ReadFile(w.logs[len(w.logs)-1])
	if err != nil {
		w.t.Fatal(err)
	}
	if diff := cmp.Diff(want, lines(w.t, b)); diff != "" {
		w.t.Error(diff)
	}
}

func TestAPromptIsShownAfterASecond(t *testing.T) {
	w := quietWorld(t)
	w.print([]byte("booted\nlogin: "))
	w.mustCopy()
	w.wantLines("F:booted")
	w.now = w.now.Add(999 * time.Millisecond)
	w.print([]byte("r"))
	w.mustCopy()
	w.wantLines("F:booted")
	w.now = w.now.Add(time.Millisecond)
	w.mustCopy()
	w.wantLines("F:booted", "P:login: r")
	w.print([]byte("oot\r\n"))
	w.mustCopy()
	w.wantLines("F:booted", "P:login: r", "F:oot")
}

func TestAClockThatIsSetBackDoesNotTurnTimesBack(t *testing.T) {
	w := quietWorld(t)
	w.print([]byte("one\n"))
	w.mustCopy()
	w.die()
	w.now = w.now.Add(-time.Hour)
	w.print([]byte("two\n"))
	w.mustCopy()
	b, err := os.ReadFile(w.logs[0])
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(b), entryTime.Format(timeLayout)); got != 2 {
		t.Errorf("the log is\n%s", b)
	}
}

// diskUse is what a file takes on disk, in bytes.
func diskUse(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

func TestASpoolTakesNoRoomForWhatIsLogged(t *testing.T) {
	w := quietWorld(t)
	for range 20 {
		w.print([]byte(strings.Repeat("a line of output\n", 10000)))
		w.mustCopy()
		if got := diskUse(t, w.path("spool")); got > 2*4096 {
			t.Fatalf("the spool takes %d bytes on disk after all of it was logged", got)
		}
	}
	info, err := os.Stat(w.path("spool"))
	if err != nil || info.Size() != int64(len(w.printed)) {
		t.Errorf("the spool is %d bytes long, %v; QEMU appends to %d", info.Size(), err, len(w.printed))
	}
}

func TestWhatExceedsTheCapIsLostAndSaidSo(t *testing.T) {
	w := quietWorld(t)
	w.print([]byte("begun\nlogin: "))
	w.mustCopy()
	w.now = w.now.Add(time.Second)
	w.mustCopy()
	w.con.limits.spoolCap = 1000
	w.print([]byte(strings.Repeat("0123456789abcde\n", 1000)))
	w.mustCopy()
	// Of 16000 bytes, the 500 that are kept begin in the middle of a line.
	want := []string{"F:begun", "P:login: ", "F:", "F:[vmlet: 15504 bytes of console output were lost here]"}
	for range 31 {
		want = append(want, "F:0123456789abcde")
	}
	w.wantLines(want...)
}

func TestWithoutALogTheSpoolKeepsToItsCap(t *testing.T) {
	w := quietWorld(t)
	w.print([]byte("first\n"))
	w.mustCopy()
	w.con.limits.spoolCap = 64 << 10
	printed := 0
	for range 50 {
		line := strings.Repeat("x", 9999) + "\n"
		w.print([]byte(line))
		printed += len(line)
		w.full = true
		if err := w.copy(false); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("error = %v, want a full disk", err)
		}
		if got := diskUse(t, w.path("spool")); got > 64<<10+2*4096 {
			t.Fatalf("the spool takes %d bytes, its cap is 64 KiB", got)
		}
	}
	w.full = false
	w.mustCopy()
	b, err := os.ReadFile(w.logs[0])
	if err != nil {
		t.Fatal(err)
	}
	lost, logged := 0, 0
	for _, line := range lines(t, b)[1:] {
		if _, err := fmt.Sscanf(line, "F:[vmlet: %d bytes of console output were lost here]", &lost); err != nil {
			logged += len(line[2:]) + 1
		}
	}
	if lost+logged != printed || lost == 0 || logged == 0 {
		t.Errorf("%d bytes lost and %d logged of %d", lost, logged, printed)
	}
}

// TestALossIsReportedOnceOverCrashes kills the process at each change of a file while a
// loss is reported.
func TestALossIsReportedOnceOverCrashes(t *testing.T) {
	for _, mid := range []bool{false, true} {
		for kill := range 12 {
			w := quietWorld(t)
			w.random = rand.New(rand.NewPCG(uint64(kill), 0))
			w.print([]byte("begun"))
			if !mid {
				w.print([]byte("\n"))
			}
			w.mustCopy()
			w.now = w.now.Add(time.Second)
			w.mustCopy()
			w.print([]byte(strings.Repeat("0123456789abcde\n", 1000)))
			w.countdown, w.deadly = kill, true
			for range 3 {
				err := w.do(func() error {
					w.con.limits.spoolCap = 1000
					return w.con.copy(t.Context(), w.buffers, false)
				})
				if err == nil {
					break
				}
			}
			want := []string{"F:begun"}
			if mid {
				want = []string{"P:begun", "F:"}
			}
			want = append(want, "F:[vmlet: 15504 bytes of console output were lost here]")
			for range 31 {
				want = append(want, "F:0123456789abcde")
			}
			w.wantLines(want...)
		}
	}
}

func TestALogThatSomebodyElseEmptiesGoesOn(t *testing.T) {
	w := quietWorld(t)
	w.print([]byte("one\ntwo\n"))
	w.mustCopy()
	if err := os.Truncate(w.logs[0], 0); err != nil {
		t.Fatal(err)
	}
	w.print([]byte("three\n"))
	w.mustCopy()
	w.wantLines("F:three")
	w.die()
	w.print([]byte("four\n"))
	w.mustCopy()
	w.wantLines("F:three", "F:four")
}

func TestALogThatSomebodyElseWritesIntoIsLeftAlone(t *testing.T) {
	w := quietWorld(t)
	w.print([]byte("one\n"))
	w.mustCopy()
	w.die()
	w.write(w.logs[0], []byte("2026-01-02T03:04:05.000000060Z stdout F not ours\nhalf a line"))
	w.print([]byte("two\n"))
	w.mustCopy()
	b, err := os.ReadFile(w.logs[0])
	if err != nil {
		t.Fatal(err)
	}
	head := entryTime.Format(timeLayout) + " stdout F "
	if want := head + "one\n" + head + "not ours\nhalf a line\n" + head + "two\n"; string(b) != want {
		t.Errorf("the log is\n%s\nwant\n%s", b, want)
	}
}

func TestADeletedLogIsMadeAnewAfterARestart(t *testing.T) {
	w := quietWorld(t)
	w.print([]byte("one\n"))
	w.mustCopy()
	w.die()
	if err := os.Remove(w.logs[0]); err != nil {
		t.Fatal(err)
	}
	w.print([]byte("two\n"))
	w.mustCopy()
	w.wantLines("F:two")
}

func TestAnUnreadableCheckpointIsTroubleAndNotTheEnd(t *testing.T) {
	w := quietWorld(t)
	w.print([]byte("one\n"))
	w.mustCopy()
	w.die()
	if err := os.WriteFile(w.path("checkpoint"), []byte(strings.Repeat("?", 2*slotSize)), 0o600); err != nil {
		t.Fatal(err)
	}
	con, err := openConsole(w.console(), realKernel(), limits{spoolCap: 1 << 20, punchStep: 4096, partialAfter: time.Second}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	w.con = con
	if trouble := con.takeTrouble(); !errdefs.IsDataLoss(trouble) {
		t.Errorf("trouble = %v, want DataLoss", trouble)
	}
	w.print([]byte("two\n"))
	w.mustCopy()
	w.wantLines("F:one", "F:one", "F:two")
}

func TestASpoolThatWasCutIsTroubleAndNotTheEnd(t *testing.T) {
	w := quietWorld(t)
	w.print([]byte("one\n"))
	w.mustCopy()
	if err := os.Truncate(w.path("spool"), 0); err != nil {
		t.Fatal(err)
	}
	if err := w.con.copy(t.Context(), w.buffers, false); err != nil {
		t.Fatal(err)
	}
	if trouble := w.con.takeTrouble(); !errors.Is(trouble, errCut) {
		t.Errorf("trouble = %v, want %v", trouble, errCut)
	}
	w.print([]byte("two\n"))
	w.mustCopy()
	w.wantLines("F:one", "F:two")
}
