// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// progress tells on stderr what is going on: on a terminal in one line that changes and
// goes away, elsewhere in a line per phase.
type progress struct {
	w        io.Writer
	terminal bool
	last     string
}

func (a *app) newProgress() *progress {
	return &progress{w: a.err, terminal: isTerminal(a.err) && a.env("TERM") != "dumb"}
}

// show tells what is done now, and how much of it: bytes, 0 where that is not known.
func (p *progress) show(what string, done, total int64) {
	if p.terminal {
		fmt.Fprintf(p.w, "\r\x1b[K%s%s", what, amount(done, total))
		p.last = what
		return
	}
	if what != p.last {
		fmt.Fprintln(p.w, what)
		p.last = what
	}
}

// barWidth is how many cells the bar of a terminal has.
const barWidth = 24

// bar is show with a bar before it, on a terminal and where it is known how much there is to do.
func (p *progress) bar(what string, done, total int64) {
	if p.terminal && total > 0 {
		full := int(min(barWidth, done*barWidth/total))
		what = "[" + strings.Repeat("=", full) + strings.Repeat(" ", barWidth-full) + "] " + what
	}
	p.show(what, done, total)
}

// end makes room for other output.
func (p *progress) end() {
	if p.terminal && p.last != "" {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
	p.last = ""
}

func amount(done, total int64) string {
	switch {
	case total > 0:
		return fmt.Sprintf("  %s of %s  %d%%", size(done), size(total), min(100, done*100/total))
	case done > 0:
		return "  " + size(done)
	}
	return ""
}

// size is a number of bytes in the unit that tells most.
func size(bytes int64) string {
	const kib, mib, gib = 1 << 10, 1 << 20, 1 << 30
	switch {
	case bytes >= gib:
		return fmt.Sprintf("%.1f GiB", float64(bytes)/gib)
	case bytes >= mib:
		return fmt.Sprintf("%.1f MiB", float64(bytes)/mib)
	case bytes >= kib:
		return fmt.Sprintf("%.1f KiB", float64(bytes)/kib)
	}
	return fmt.Sprintf("%d B", bytes)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
