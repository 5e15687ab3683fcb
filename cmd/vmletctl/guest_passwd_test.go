// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal returns both ends of a terminal: what a person sees and types into, and what a program has.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("there are no terminals: %v", err)
	}
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(person.Close(), program.Close()); err != nil {
			t.Error(err)
		}
	})
	return person, program
}

// echoes tells whether a terminal shows what is typed.
func echoes(t *testing.T, f *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// prompted types a line at each prompt, and notes whether it would be seen.
type prompted struct {
	bytes.Buffer

	t      *testing.T
	person *os.File
	lines  []string
	seen   bool
}

// Write implements io.Writer.
func (p *prompted) Write(b []byte) (int, error) {
	if !bytes.HasSuffix(b, []byte("\n")) {
		p.seen = p.seen || echoes(p.t, p.person)
		if _, err := p.person.WriteString(p.lines[0] + "\n"); err != nil {
			return 0, err
		}
		p.lines = p.lines[1:]
	}
	return p.Buffer.Write(b)
}

func TestAPasswordIsNotSeenOnATerminal(t *testing.T) {
	for _, tc := range []struct {
		typed []string
		want  string
	}{{[]string{"sesame", "sesame"}, "sesame"}, {[]string{"sesame", "other"}, ""}} {
		person, program := terminal(t)
		screen := &prompted{t: t, person: person, lines: tc.typed}
		a := &app{in: program, err: screen}
		got, err := a.readPassword(t.Context(), "New password: ")
		if got != tc.want || (err == nil) != (tc.want != "") || screen.String() != "New password: \nAgain: \n" {
			t.Errorf("got %q, %v; the screen shows %q", got, err, screen)
		}
		if screen.seen || !echoes(t, program) {
			t.Errorf("shown while it is typed: %v; afterwards: %v", screen.seen, echoes(t, program))
		}
	}
}

// Who is interrupted at the prompt has a terminal as before.
func TestAnInterruptedPromptLeavesTheTerminalAlone(t *testing.T) {
	_, program := terminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	a := &app{in: program, err: interrupting(cancel)}
	if _, err := a.readPassword(ctx, "New password: "); !errors.Is(err, errInterrupted) {
		t.Errorf("got %v", err)
	}
	if !echoes(t, program) {
		t.Error("it does not show what is typed")
	}
}

// interrupting is a screen whose person presses Ctrl-C at the prompt.
type interrupting func()

// Write implements io.Writer.
func (i interrupting) Write(b []byte) (int, error) {
	i()
	return len(b), nil
}
