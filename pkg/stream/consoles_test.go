// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/goleak"

	"github.com/vmlet/vmlet/pkg/vm"
)

// room is a folder with consoles, and the reports of those who copy them.
type room struct {
	t   *testing.T
	dir string

	mu      sync.Mutex
	reports []error
	news    chan struct{}
}

func newRoom(t *testing.T) *room {
	t.Helper()
	r := &room{t: t, dir: t.TempDir(), news: make(chan struct{}, 100)}
	if err := os.Mkdir(filepath.Join(r.dir, "logs"), 0o755); err != nil {
		t.Fatal(err)
	}
	return r
}

// consoles starts a process's Consoles; they are closed at the test's end.
func (r *room) consoles(change func(*Consoles)) *Consoles {
	r.t.Helper()
	cs := NewConsoles(ConsoleOptions{OnError: func(_ string, err error) {
		r.mu.Lock()
		r.reports = append(r.reports, err)
		r.mu.Unlock()
		r.news <- struct{}{}
	}})
	if change != nil {
		change(cs)
	}
	r.t.Cleanup(func() {
		if err := cs.Close(); err != nil {
			r.t.Error(err)
		}
	})
	return cs
}

// report waits for the next thing that OnError is told.
func (r *room) report() error {
	r.t.Helper()
	select {
	case <-r.news:
	case <-time.After(10 * time.Second):
		r.t.Fatal("nothing is reported")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.reports[0]
	r.reports = r.reports[1:]
	return err
}

func (r *room) console(id string) vm.Console {
	r.t.Helper()
	c := vm.Console{
		ContainerID: id,
		Spool:       filepath.Join(r.dir, id+".spool"),
		Checkpoint:  filepath.Join(r.dir, id+".checkpoint"),
		Log:         filepath.Join(r.dir, "logs", id+".log"),
	}
	r.print(c, "")
	return c
}

func (r *room) print(c vm.Console, output string) {
	r.t.Helper()
	f, err := os.OpenFile(c.Spool, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := f.WriteString(output); err != nil {
		r.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *room) log(path string) string {
	r.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.t.Fatal(err)
	}
	return text(r.t, b[:strings.LastIndexByte(string(b), '\n')+1])
}

// waitFor waits until something is so: files have no events here.
func (r *room) waitFor(what string, is func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("never: %s", what)
		}
	}
}

func (r *room) follow(cs *Consoles, c vm.Console) {
	r.t.Helper()
	if err := cs.Follow(r.t.Context(), c); err != nil {
		r.t.Fatal(err)
	}
}

func (r *room) finish(cs *Consoles, c vm.Console) {
	r.t.Helper()
	if err := cs.Finish(r.t.Context(), c); err != nil {
		r.t.Fatal(err)
	}
}

func TestManyConsolesWithRotationsAndRestarts(t *testing.T) {
	defer goleak.VerifyNone(t)
	r := newRoom(t)
	const consoles, lives, rounds = 40, 4, 10
	printed := make([]string, consoles)
	rotated := make([]int, consoles)
	for life := range lives {
		cs := NewConsoles(ConsoleOptions{OnError: func(id string, err error) { t.Errorf("%s: %v", id, err) }})
		var guests sync.WaitGroup
		for i := range consoles {
			guests.Go(func() {
				c := r.console(fmt.Sprint("c", i))
				random := rand.New(rand.NewPCG(uint64(i), uint64(life)))
				r.follow(cs, c)
				for range rounds {
					output := string(randomOutput(random, random.IntN(3000)))
					r.print(c, output)
					printed[i] += output
					if random.IntN(5) == 0 {
						rotated[i]++
						if err := os.Rename(c.Log, fmt.Sprint(c.Log, ".", rotated[i])); err != nil {
							t.Error(err)
						}
						if err := cs.Reopen(t.Context(), c.ContainerID); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
		guests.Wait()
		if life == lives-1 {
			for i := range consoles {
				r.finish(cs, r.console(fmt.Sprint("c", i)))
			}
		}
		if err := cs.Close(); err != nil {
			t.Error(err)
		}
	}
	for i := range consoles {
		path := filepath.Join(r.dir, "logs", fmt.Sprint("c", i, ".log"))
		var got strings.Builder
		for n := 1; n <= rotated[i]; n++ {
			got.WriteString(r.log(fmt.Sprint(path, ".", n)))
		}
		got.WriteString(r.log(path))
		if want := wanted([]byte(printed[i])); got.String() != want {
			t.Errorf("console %d: %s", i, difference(got.String(), want))
		}
	}
}

func TestAPromptIsShownWithoutAnotherEvent(t *testing.T) {
	r := newRoom(t)
	cs := r.consoles(func(cs *Consoles) { cs.limits.partialAfter = 50 * time.Millisecond })
	c := r.console("c")
	r.follow(cs, c)
	r.print(c, "login: ")
	r.waitFor("the prompt is in the log", func() bool {
		b, err := os.ReadFile(c.Log)
		return err == nil && strings.HasSuffix(string(b), " stdout P login: \n")
	})
}

// TestWhatIsPrintedWhileCopyingEndsIsCopied prints when copying has found that nothing
// is left, and before it has ended.
func TestWhatIsPrintedWhileCopyingEndsIsCopied(t *testing.T) {
	r := newRoom(t)
	c := r.console("c")
	var once sync.Once
	ending, goOn := make(chan struct{}), make(chan struct{})
	cs := r.consoles(func(cs *Consoles) {
		cs.now = func() time.Time { // asked for after each read
			if info, err := os.Stat(c.Log); err == nil && info.Size() > 0 {
				once.Do(func() { close(ending); <-goOn })
			}
			return time.Now()
		}
	})
	r.follow(cs, c)
	r.print(c, "one\n")
	<-ending
	r.print(c, "two\n")
	time.Sleep(5 * breath) // the event comes while copying has not ended
	close(goOn)
	r.waitFor("the second line is in the log", func() bool { return r.log(c.Log) == "one\ntwo\n" })
}

func TestFollowingWithoutASpoolIsNotFound(t *testing.T) {
	r := newRoom(t)
	c := r.console("c")
	if err := os.Remove(c.Spool); err != nil {
		t.Fatal(err)
	}
	if err := r.consoles(nil).Follow(t.Context(), c); !errdefs.IsNotFound(err) {
		t.Errorf("error = %v, want NotFound", err)
	}
}

func TestTheLogsFolderIsMadeToBeginWith(t *testing.T) {
	r := newRoom(t)
	c := r.console("c")
	c.Log = filepath.Join(r.dir, "a", "new", "folder", "c.log")
	cs := r.consoles(nil)
	r.follow(cs, c)
	r.print(c, "line\n")
	r.finish(cs, c)
	if got := r.log(c.Log); got != "line\n" {
		t.Errorf("the log says %q", got)
	}
}

func TestBeginningWithALogThatCannotBeIsAnErrorAndLeavesNothing(t *testing.T) {
	r := newRoom(t)
	cs := r.consoles(nil)
	c := r.console("c")
	for _, log := range []string{filepath.Join(c.Spool, "c.log"), r.dir} { // below a file, and a folder
		c.Log = log
		if err := cs.Follow(t.Context(), c); err == nil {
			t.Errorf("%s can be a log", log)
		}
		if _, err := os.Stat(c.Checkpoint); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the checkpoint is there: %v", err)
		}
		if err := cs.Reopen(t.Context(), "c"); !errdefs.IsNotFound(err) {
			t.Errorf("it is followed: %v", err)
		}
	}
}

func TestAFolderThatIsGoneIsWaitedForAndReportedOnce(t *testing.T) {
	r := newRoom(t)
	c := r.console("c")
	before := r.consoles(nil)
	r.follow(before, c)
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Dir(c.Log)); err != nil {
		t.Fatal(err)
	}
	cs := r.consoles(nil)
	r.follow(cs, c)
	if err := r.report(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("report = %v, want that the folder is missing", err)
	}
	r.print(c, "meanwhile\n")
	if err := os.Mkdir(filepath.Dir(c.Log), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := r.report(); err != nil {
		t.Errorf("report = %v, want that it is over", err)
	}
	r.waitFor("the line is in the log", func() bool { return r.log(c.Log) == "meanwhile\n" })
}

func TestFinishingWithAFullDiskCanBeTriedAgain(t *testing.T) {
	r := newRoom(t)
	var full sync.Mutex
	isFull := true
	cs := r.consoles(func(cs *Consoles) {
		write := cs.kernel.writeAt
		cs.kernel.writeAt = func(f *os.File, b []byte, at int64) (int, error) {
			full.Lock()
			defer full.Unlock()
			if isFull && strings.HasSuffix(f.Name(), ".log") {
				return 0, syscall.ENOSPC
			}
			return write(f, b, at)
		}
	})
	c := r.console("c")
	r.print(c, "the end")
	for range 2 { // not followed, then followed
		if err := cs.Finish(t.Context(), c); !errdefs.IsUnavailable(err) || !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("error = %v, want Unavailable for a full disk", err)
		}
		r.follow(cs, c)
	}
	full.Lock()
	isFull = false
	full.Unlock()
	r.finish(cs, c)
	if got := r.log(c.Log); got != "the end\n" {
		t.Errorf("the log says %q", got)
	}
	for _, path := range []string{c.Spool, c.Checkpoint} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there", path)
		}
	}
}

func TestFinishingAfterTheLogsFolderWasRemovedDropsTheRest(t *testing.T) {
	r := newRoom(t)
	cs := r.consoles(nil)
	c := r.console("c")
	r.print(c, "unwanted\n")
	if err := os.RemoveAll(filepath.Dir(c.Log)); err != nil {
		t.Fatal(err)
	}
	r.finish(cs, c)
	if _, err := os.Stat(c.Spool); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the spool is still there")
	}
}

func TestFinishingAConsoleThatPrintedNothingMakesNoLog(t *testing.T) {
	r := newRoom(t)
	c := r.console("c")
	r.finish(r.consoles(nil), c)
	if _, err := os.Stat(c.Log); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the log is there: %v", err)
	}
}

func TestFinishingStopsWhenItsContextEnds(t *testing.T) {
	r := newRoom(t)
	cs := r.consoles(nil)
	c := r.console("c")
	r.follow(cs, c)
	unlock, err := cs.locks.Lock(t.Context(), "c") // as a copy to a disk that hangs does
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := cs.Finish(ctx, c); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error = %v, want DeadlineExceeded", err)
	}
	if err := cs.Reopen(ctx, "c"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error = %v, want DeadlineExceeded", err)
	}
	unlock()
	r.finish(cs, c)
}

func TestAfterCloseNothingIsFollowed(t *testing.T) {
	defer goleak.VerifyNone(t)
	r := newRoom(t)
	cs := r.consoles(nil)
	c := r.console("c")
	r.follow(cs, c)
	for range 2 {
		if err := cs.Close(); err != nil {
			t.Fatal(err)
		}
	}
	r.print(c, "later\n")
	if err := cs.Follow(t.Context(), c); !errdefs.IsUnavailable(err) {
		t.Errorf("error = %v, want Unavailable", err)
	}
	if got := r.log(c.Log); got != "" {
		t.Errorf("the log says %q", got)
	}
}
