// SPDX-License-Identifier: Apache-2.0

package logfile_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmlet/vmlet/cmd/vmletctl/logfile"
)

const (
	full    = "2026-01-02T03:04:05.000000006Z stdout F "
	partial = "2026-01-02T03:04:05.000000006Z stdout P "
	onErr   = "2026-01-02T03:04:05.000000006Z stderr F "
)

func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestPrint(t *testing.T) {
	long := strings.Repeat("x", 10_000)
	for title, tc := range map[string]struct {
		file           string
		tail           int
		stdout, stderr string
	}{
		"lines":                       {full + "a\n" + full + "\n" + full + "b\n", -1, "a\n\nb\n", ""},
		"parts":                       {partial + "a\n" + partial + "b\n" + full + "c\n", -1, "abc\n", ""},
		"streams":                     {full + "a\n" + onErr + "e\n" + full + "b\n", -1, "a\nb\n", "e\n"},
		"the last lines":              {full + "a\n" + full + "b\n", 1, "b\n", ""},
		"what is no entry":            {"junk\n" + full + "a\n", -1, "junk\na\n", ""},
		"an entry that is being made": {full + "a\n" + full + "half", -1, "a\n", ""},
		"an empty file":               {"", -1, "", ""},
		"more than is read at a time": {strings.Repeat(full+long+"\n", 20), -1, strings.Repeat(long+"\n", 20), ""},
		"an entry larger than that":   {full + strings.Repeat(long, 20) + "\n" + full + "a\n", -1, strings.Repeat(long, 20) + "\na\n", ""},
	} {
		t.Run(title, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			write(t, path, tc.file)
			var stdout, stderr bytes.Buffer
			if err := logfile.Print(path, tc.tail, &stdout, &stderr); err != nil {
				t.Fatal(err)
			}
			if stdout.String() != tc.stdout || stderr.String() != tc.stderr {
				t.Errorf("got %q and %q", stdout.String(), stderr.String())
			}
		})
	}
}

func TestStreamsKeepTheirOrderOnOneTerminal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write(t, path, full+"a\n"+onErr+"b\n"+full+"c\n")
	var terminal bytes.Buffer
	if err := logfile.Print(path, -1, &terminal, &terminal); err != nil {
		t.Fatal(err)
	}
	if terminal.String() != "a\nb\nc\n" {
		t.Errorf("got %q", terminal.String())
	}
}

func TestPrintOfAFileThatIsNotThere(t *testing.T) {
	err := logfile.Print(filepath.Join(t.TempDir(), "log"), -1, io.Discard, io.Discard)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// follower runs Follow on a log and lets a test read what it prints line by line.
type follower struct {
	path  string
	lines *bufio.Scanner
	ended chan struct{}
	done  chan error
}

func follow(ctx context.Context, t *testing.T, path string, tail int) *follower {
	t.Helper()
	r, w := io.Pipe()
	f := &follower{path: path, lines: bufio.NewScanner(r), ended: make(chan struct{}), done: make(chan error, 1)}
	go func() {
		err := logfile.Follow(ctx, path, tail, w, w, f.ended)
		f.done <- errors.Join(err, w.Close())
	}()
	// Nothing that a test waits for comes if the code is wrong: then it is to end too.
	watchdog := time.AfterFunc(20*time.Second, func() { r.CloseWithError(errors.New("nothing came")) })
	t.Cleanup(func() { watchdog.Stop() })
	return f
}

func (f *follower) want(t *testing.T, lines ...string) {
	t.Helper()
	for _, want := range lines {
		if !f.lines.Scan() {
			t.Fatalf("no line comes, want %q: %v", want, f.lines.Err())
		}
		if got := f.lines.Text(); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

func (f *follower) wantEnd(t *testing.T) {
	t.Helper()
	if f.lines.Scan() {
		t.Errorf("%q is too much", f.lines.Text())
	}
	if err := <-f.done; err != nil {
		t.Error(err)
	}
}

func TestFollowGoesOnUntilTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write(t, path, full+"before\n"+full+"a\n")
	f := follow(t.Context(), t, path, 1)
	f.want(t, "a")
	write(t, path, full+"b\n"+full[:10])
	f.want(t, "b")
	write(t, path, full[10:]+"c\n"+partial+"d")
	f.want(t, "c")
	write(t, path, "\n"+full+"e\n")
	f.want(t, "de")
	write(t, path, full+"last words\n")
	close(f.ended)
	f.want(t, "last words")
	f.wantEnd(t)
}

func TestFollowGoesThroughRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write(t, path, full+"a\n")
	f := follow(t.Context(), t, path, -1)
	f.want(t, "a")
	for range 3 {
		if err := os.Rename(path, path+".20260102"); err != nil {
			t.Fatal(err)
		}
		write(t, path+".20260102", full+"still into the old one\n")
		f.want(t, "still into the old one")
		write(t, path+".20260102", full+"its last line\n")
		write(t, path, full+"the new one's first\n")
		f.want(t, "its last line", "the new one's first")
	}
	close(f.ended)
	f.wantEnd(t)
}

func TestRotationAtTheVeryEndIsSeen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write(t, path, full+"a\n")
	f := follow(t.Context(), t, path, -1)
	f.want(t, "a")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write(t, path+".1", full+"b\n")
	write(t, path, full+"c\n")
	close(f.ended)
	f.want(t, "b", "c")
	f.wantEnd(t)
}

func TestAnEntryThatIsWrittenAnewAfterACrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write(t, path, full+"a\n"+full+"torn")
	f := follow(t.Context(), t, path, -1)
	f.want(t, "a")
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte(full+"whole, and longer\n"), int64(len(full+"a\n"))); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	f.want(t, "whole, and longer")
	close(f.ended)
	f.wantEnd(t)
}

func TestFollowOfAFileThatIsEmptied(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write(t, path, full+"a long line that is longer than what follows\n")
	f := follow(t.Context(), t, path, -1)
	f.want(t, "a long line that is longer than what follows")
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	write(t, path, full+"b\n")
	f.want(t, "b")
	close(f.ended)
	f.wantEnd(t)
}

func TestFollowWaitsForTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f := follow(t.Context(), t, path, 5)
	write(t, path, full+"a\n")
	f.want(t, "a")
	close(f.ended)
	f.wantEnd(t)
}

func TestFollowNeedsTheFolder(t *testing.T) {
	err := logfile.Follow(t.Context(), filepath.Join(t.TempDir(), "none", "log"), -1, io.Discard, io.Discard, nil)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write(t, path, full+"a\n")
	ctx, cancel := context.WithCancel(t.Context())
	f := follow(ctx, t, path, -1)
	f.want(t, "a")
	cancel()
	f.wantEnd(t)
}

func TestFollowEndsWhenNobodyReads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write(t, path, full+"a\n")
	r, w := io.Pipe()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := logfile.Follow(t.Context(), path, -1, w, w, nil); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}
