// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// window is the user's terminal while a guest has it: what is typed goes to the guest as it is, signals' keys too.
type window struct {
	keys *os.File
	was  *term.State
	// screen is what the guest draws on, nil where that is no terminal.
	screen io.Writer
}

// leftovers are what a guest's program may have switched on and not off: the other screen, the mouse, pasting in brackets,
// keys for applications, no line wrap, no cursor, colours. Where it has not, nothing happens.
const leftovers = "\x1b[?1047l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1l\x1b>\x1b[?7h\x1b[?25h\x1b[0m\r\n"

// openWindow gives a guest the terminal that the program has as its input. It is nil where that is none.
func (a *app) openWindow() (*window, error) {
	keys, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(keys.Fd())) {
		return nil, nil
	}
	was, err := term.MakeRaw(int(keys.Fd()))
	if err != nil {
		return nil, fmt.Errorf("set the terminal up: %w", err)
	}
	w := &window{keys: keys, was: was}
	if isTerminal(a.out) {
		w.screen = a.out
	}
	return w, nil
}

// close gives the terminal back as it was. nil for none.
func (w *window) close() error {
	if w == nil {
		return nil
	}
	if w.screen != nil {
		if _, err := io.WriteString(w.screen, leftovers); err != nil {
			return err
		}
	}
	if err := term.Restore(int(w.keys.Fd()), w.was); err != nil {
		return fmt.Errorf("set the terminal back: %w", err)
	}
	return nil
}
