// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vmlet/vmlet/pkg/agentlink/record"
	"github.com/vmlet/vmlet/pkg/crilog"
	"github.com/vmlet/vmlet/pkg/vm"
)

// A world is a console with its files, a guest that prints, a kubelet that rotates, and
// a kernel that kills the process, or fails, in the middle of whatever it does.
type world struct {
	t      *testing.T
	random *rand.Rand
	dir    string
	format vm.ConsoleFormat
	con    *console // nil while the process is dead
	now    time.Time

	printed []byte
	logs    []string // the paths of all logs, oldest first
	kept    []byte   // the whole entries there were at the last look
	buffers *buffers

	// countdown is how many more changes of files succeed before one does not.
	countdown int
	deadly    bool // it kills
	full      bool // logs cannot be written at all
}

// killed is what the process dies of.
var errKilled = errors.New("killed")

func newWorld(t *testing.T, random *rand.Rand) *world {
	t.Helper()
	w := &world{t: t, random: random, dir: t.TempDir(), now: entryTime, buffers: newBuffers(), countdown: -1}
	w.logs = []string{w.path("0.log")}
	w.write(w.path("spool"), nil)
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(path string, b []byte) {
	w.t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := f.Write(b); err != nil {
		w.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		w.t.Fatal(err)
	}
}

// fate says whether the kernel does not do the next thing.
func (w *world) fate() bool {
	w.countdown--
	return w.countdown == -1
}

// doom kills the process or returns what a full disk says.
func (w *world) doom() error {
	if w.deadly {
		panic(errKilled)
	}
	return syscall.ENOSPC
}

func (w *world) kernel() kernel {
	k := realKernel()
	return kernel{
		writeAt: func(f *os.File, b []byte, at int64) (int, error) {
			if w.full && len(b) != slotSize {
				return 0, syscall.ENOSPC
			}
			if !w.fate() {
				return k.writeAt(f, b, at)
			}
			// What lies in one page, as a checkpoint's slot does, is written as a whole or not.
			n := 0
			if len(b) != slotSize {
				n = w.random.IntN(len(b) + 1)
			} else if w.deadly && w.random.IntN(2) == 0 {
				n = len(b)
			}
			if _, err := k.writeAt(f, b[:n], at); err != nil {
				return 0, err
			}
			return n, w.doom()
		},
		truncate: func(f *os.File, size int64) error {
			if w.fate() {
				return w.doom()
			}
			return k.truncate(f, size)
		},
		punch: func(f *os.File, from, to int64) error {
			if w.fate() {
				return w.doom()
			}
			return k.punch(f, from, to)
		},
	}
}

func (w *world) console() vm.Console {
	return vm.Console{ContainerID: "c", Format: w.format, Spool: w.path("spool"), Checkpoint: w.path("checkpoint"), Log: w.logs[len(w.logs)-1]}
}

// do runs a part of the process, which dies if the kernel says so.
func (w *world) do(part func() error) (err error) {
	w.t.Helper()
	defer func() {
		if p := recover(); p == nil {
			return
		} else if killed, ok := p.(error); !ok || !errors.Is(killed, errKilled) {
			panic(p)
		}
		w.die()
		err = errKilled
	}()
	if w.con == nil {
		con, err := openConsole(w.console(), w.kernel(), limits{spoolCap: 1 << 40, punchStep: 4096, partialAfter: time.Second},
			func() time.Time { return w.now })
		if err != nil {
			w.t.Fatal(err)
		}
		w.con = con
	}
	err = part()
	if trouble := w.con.takeTrouble(); trouble != nil && !errors.Is(trouble, syscall.ENOSPC) {
		w.t.Fatal(trouble)
	}
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		w.t.Fatal(err)
	}
	return err
}

// die closes what the kernel would.
func (w *world) die() {
	if w.con != nil {
		_ = w.con.close() //nolint:errcheck // of a dead process
		w.con = nil
	}
}

func (w *world) print(b []byte) {
	w.t.Helper()
	w.write(w.path("spool"), b)
	w.printed = append(w.printed, b...)
}

func (w *world) copy(last bool) error {
	w.t.Helper()
	return w.do(func() error { return w.con.copy(w.t.Context(), w.buffers, last) })
}

// rotate is what kubelet does: rename the log, have it reopened, and rename it back if
// that failed.
func (w *world) rotate() {
	w.t.Helper()
	path := w.logs[len(w.logs)-1]
	renamed := fmt.Sprint(path, ".", len(w.logs))
	if os.Rename(path, renamed) != nil {
		return // not made yet
	}
	if w.random.IntN(4) == 0 {
		_ = w.copy(false) //nolint:errcheck // between the renaming and the call
	}
	if err := w.do(func() error { return w.con.reopen() }); err == nil {
		w.logs = append(w.logs[:len(w.logs)-1], renamed, path)
		return
	}
	if _, err := os.Stat(path); err == nil {
		// The new file was made before the call failed. A kubelet that renames the old
		// one back replaces it: it must not hold anything then.
		if info, err := os.Stat(path); err != nil || info.Size() != 0 {
			w.t.Fatalf("the new log of a failed reopening holds %d bytes, %v", info.Size(), err)
		}
	}
	if err := os.Rename(renamed, path); err != nil {
		w.t.Fatal(err)
	}
}

// look reads all logs and expects that no entry that was there has changed.
func (w *world) look() []byte {
	w.t.Helper()
	var all []byte
	for i, path := range w.logs {
		b, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			w.t.Fatal(err)
		}
		whole := b[:bytes.LastIndexByte(b, '\n')+1]
		if i < len(w.logs)-1 && len(whole) != len(b) {
			w.t.Fatalf("the rotated log %s ends in %q", path, b[len(whole):])
		}
		all = append(all, whole...)
	}
	if !bytes.HasPrefix(all, w.kept) {
		w.t.Fatal("entries have changed: ", difference(string(all), string(w.kept)))
	}
	w.kept = all
	return all
}

// difference shows where two texts begin to differ.
func difference(got, want string) string {
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	near := func(s string) string { return s[max(at-60, 0):min(at+60, len(s))] }
	return fmt.Sprintf("got %d bytes, want %d; around byte %d there is\n%q\nwant\n%q", len(got), len(want), at, near(got), near(want))
}

// end finishes the console, however often it takes, and compares.
func (w *world) end() {
	w.t.Helper()
	w.countdown = w.random.IntN(4)
	for w.copy(true) != nil {
		w.countdown = -1
	}
	all := w.look()
	var got, want string
	if w.format == vm.ConsoleRecords {
		got, want = strings.Join(entries(w.t, all), "\n"), strings.Join(wantedEntries(w.printed), "\n")
	} else {
		got, want = text(w.t, all), wanted(w.printed)
	}
	if got != want {
		w.t.Fatal(difference(got, want))
	}
	var before time.Time
	for line := range bytes.Lines(all) {
		e, err := crilog.Parse(line[:len(line)-1])
		if err != nil {
			w.t.Fatal(err)
		}
		if e.Time.Before(before) {
			w.t.Fatalf("an entry of %v comes after one of %v", e.Time, before)
		}
		before = e.Time
	}
	w.die()
}

func (w *world) output(n int) []byte {
	if w.format == vm.ConsoleRecords {
		return randomRecords(w.random, n)
	}
	return randomOutput(w.random, n)
}

// step does one thing that happens to a console.
func (w *world) step(what byte) {
	w.t.Helper()
	switch what % 8 {
	case 0, 1:
		w.print(w.output(w.random.IntN(1 << w.random.IntN(18))))
	case 2:
		if w.format == vm.ConsoleRecords {
			piece := record.Append(nil, 0, []byte("cut short"))
			w.print(piece[:w.random.IntN(len(piece))])
			return
		}
		w.print([]byte(strings.Repeat("line\r\n", w.random.IntN(100)) + "login: "))
	case 3:
		_ = w.copy(false) //nolint:errcheck // killed, or the disk is full: then the next one goes on
	case 4:
		w.now = w.now.Add(time.Duration(w.random.IntN(2500)-500) * time.Millisecond)
	case 5:
		w.rotate()
	case 6:
		w.die()
	case 7:
		w.countdown, w.deadly = w.random.IntN(12), w.random.IntN(3) > 0
	}
	w.look()
}

// TestEveryLineIsLoggedOnceWhateverHappens kills the process and fills the disk at
// random moments of random copying and rotating.
func TestEveryLineIsLoggedOnceWhateverHappens(t *testing.T) {
	worlds := uint64(100)
	if testing.Short() {
		worlds = 20
	}
	for seed := range worlds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			w := newWorld(t, random)
			for range 60 {
				w.step(byte(random.Uint32()))
			}
			w.end()
		})
	}
}

// FuzzWorld lets the fuzzer choose what happens.
func FuzzWorld(f *testing.F) {
	f.Add(uint64(1), []byte{0, 3, 7, 0, 3, 5, 6, 3})
	f.Add(uint64(2), []byte{2, 3, 4, 4, 3, 7, 2, 3, 5, 3})
	f.Fuzz(func(t *testing.T, seed uint64, steps []byte) {
		w := newWorld(t, rand.New(rand.NewPCG(seed, 1)))
		for _, what := range steps[:min(len(steps), 50)] {
			w.step(what)
		}
		w.end()
	})
}
