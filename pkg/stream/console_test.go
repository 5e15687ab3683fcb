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

	"github.com/vmlet/vmlet/pkg/crilog"
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
	if got := strings.Count(string(b), entryTime.Format(crilog.TimeLayout)); got != 2 {
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
	head := entryTime.Format(crilog.TimeLayout) + " stdout F "
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

// killAt has the process die at the n-th change of a file from now on.
func (w *world) killAt(n int) { w.countdown, w.deadly = n, true }

func TestAReopeningThatWasCutShortIsCompleted(t *testing.T) {
	for seed := range uint64(8) { // the checkpoint is written before the kill, or not
		w := quietWorld(t)
		w.random = rand.New(rand.NewPCG(seed, 0))
		w.print([]byte("one\n"))
		w.mustCopy()
		path := w.logs[0]
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
		w.killAt(0)
		if err := w.do(func() error { return w.con.reopen() }); !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		w.print([]byte("two\n"))
		w.mustCopy()
		w.wantLines("F:two")
	}
}

// TestALogThatIsRenamedBackOverItsSuccessorIsFound kills the process when the
// checkpoint speaks of the new log already. kubelet, without an answer, puts the old one
// back in its place, and renames it again for its next try.
func TestALogThatIsRenamedBackOverItsSuccessorIsFound(t *testing.T) {
	w := quietWorld(t)
	w.print([]byte("one\n"))
	w.mustCopy()
	path := w.logs[0]
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := w.do(func() error { return w.con.reopen() }); err != nil {
		t.Fatal(err)
	}
	w.die()
	for _, name := range []string{path, path + ".2"} {
		if err := os.Rename(path+".1", name); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(name, path+".1"); err != nil {
			t.Fatal(err)
		}
	}
	w.print([]byte("two\n"))
	w.mustCopy()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("a new log was made, which renaming the old one back will destroy: %v", err)
	}
	w.logs = []string{path + ".1"}
	w.wantLines("F:one", "F:two")
}

func TestAPromptThatWasShownBeforeAKillIsEnded(t *testing.T) {
	for seed := range uint64(8) {
		w := quietWorld(t)
		w.random = rand.New(rand.NewPCG(seed, 0))
		w.print([]byte("login: "))
		w.mustCopy()
		w.now = w.now.Add(time.Second)
		w.killAt(1) // after the log, while the checkpoint is written
		if err := w.copy(false); !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		w.wantLines("P:login: ")
		w.mustCopy()
		if err := w.copy(true); err != nil {
			t.Fatal(err)
		}
		w.wantLines("P:login: ", "F:")
	}
}

func TestBetweenRetriesTheSpoolKeepsToItsCap(t *testing.T) {
	w := quietWorld(t)
	w.print([]byte("first\n"))
	w.mustCopy()
	failed := errors.New("as before")
	f := &followed{console: w.con, retry: time.Hour, retryAt: w.now.Add(time.Hour), lastErr: failed}
	f.limits.spoolCap = 16 << 10
	w.print([]byte(strings.Repeat("0123456789abcde\n", 10000)))
	if err := f.turn(t.Context(), w.buffers); !errors.Is(err, failed) {
		t.Errorf("error = %v, want the last failure, which was not tried again", err)
	}
	if got := diskUse(t, w.path("spool")); got > 16<<10+2*4096 {
		t.Errorf("the spool takes %d bytes", got)
	}
	w.wantLines("F:first")
}

func TestReopeningALogThatWasNotRenamedChangesNothing(t *testing.T) {
	w := quietWorld(t)
	w.print([]byte("one\n" + strings.Repeat("x", 5000) + "\n"))
	w.killAt(1)
	for w.copy(false) == nil { // until the entry is torn
		t.Fatal("not killed")
	}
	torn, err := os.ReadFile(w.logs[0])
	if err != nil || len(torn) == 0 || torn[len(torn)-1] == '\n' {
		t.Fatalf("the log is not torn: %q, %v", torn, err)
	}
	if err := w.do(func() error { return w.con.reopen() }); err != nil {
		t.Fatal(err)
	}
	w.mustCopy()
	w.wantLines("F:one", "F:"+strings.Repeat("x", 5000))
}
