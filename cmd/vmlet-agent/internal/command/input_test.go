// SPDX-License-Identifier: Apache-2.0

package command_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

func withStdin(r *agentv1.StartMainRequest) { r.Stdin = true }

func withStdinOnce(r *agentv1.StartMainRequest) { r.Stdin, r.StdinOnce = true, true }

func withTTY(r *agentv1.StartMainRequest) { r.Process.Tty = true }

func TestAttachedClientsShareTheInput(t *testing.T) {
	g := newGuest(t)
	g.start(t, "a", "cat", withStdin)
	for _, text := range []string{"one\n", "two\n"} {
		a, err := g.Attach("a")
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Write(t.Context(), []byte(text)); err != nil {
			t.Error(err)
		}
		a.Close()
	}
	a, err := g.Attach("a")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Signal("a", "SIGTERM"); err != nil {
		t.Fatal(err)
	}
	<-a.Done()
	if err := a.Write(t.Context(), []byte("x")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("input for a command that has ended: %v", err)
	}
	if out := g.output(t, 0); out != "one\ntwo\n"[:len(out)] {
		t.Errorf("%q", out)
	}
}

func TestStdinOnceEndsWithTheFirstClient(t *testing.T) {
	g := newGuest(t)
	g.start(t, "a", "cat; exit 4", withStdinOnce)
	a, err := g.Attach("a")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Write(t.Context(), []byte("all\n")); err != nil {
		t.Fatal(err)
	}
	a.Close()
	if exit := g.wait(t, "a").GetExit(); exit.GetCode() != 4 {
		t.Errorf("%v", exit)
	}
	if out := g.output(t, 0); out != "all\n" {
		t.Errorf("%q", out)
	}
}

func TestAClientLeavesACommandThatReadsNothing(t *testing.T) {
	g := newGuest(t)
	g.start(t, "a", "sleep 1000", withStdin)
	a, err := g.Attach("a")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := a.Write(ctx, make([]byte, 1<<20)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	// The next one waits by itself, not with the one before.
	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := a.Write(ctx, make([]byte, 1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("then %v", err)
	}
	if err := g.Signal("a", "KILL"); err != nil {
		t.Fatal(err)
	}
	g.wait(t, "a")
}

func TestACommandOnATerminal(t *testing.T) {
	g := newGuest(t)
	g.start(t, "a", "read line; stty size; echo got $line; exit 2", withTTY, withStdinOnce)
	a, err := g.Attach("a")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Resize(90, 30); err != nil {
		t.Error(err)
	}
	if err := a.Write(t.Context(), []byte("text\n")); err != nil {
		t.Error(err)
	}
	a.Close()
	if exit := g.wait(t, "a").GetExit(); exit.GetCode() != 2 {
		t.Errorf("%v", exit)
	}
	if out := strings.Split(g.output(t, 0), "\r\n"); !slices.Equal(out, []string{"text", "30 90", "got text", ""}) &&
		!slices.Equal(out, []string{"text\r\n30 90\r\ngot text\r\n"}) {
		t.Errorf("%q", out)
	}
}
