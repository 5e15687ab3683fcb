// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestProgressOnATerminalIsOneLineThatGoesAway(t *testing.T) {
	var out bytes.Buffer
	p := &progress{w: &out, terminal: true}
	p.show("downloading tiny", 0, 0)
	p.show("downloading tiny", 1<<20, 0)
	p.show("downloading tiny", 5<<19, 10<<20)
	p.end()
	p.end()
	const erase = "\r\x1b[K"
	want := erase + "downloading tiny" + erase + "downloading tiny  1.0 MiB" + erase + "downloading tiny  2.5 MiB of 10.0 MiB  25%" + erase
	if out.String() != want {
		t.Errorf("got %q", out.String())
	}
}

func TestProgressElsewhereIsALinePerPhase(t *testing.T) {
	var out bytes.Buffer
	p := &progress{w: &out}
	p.show("downloading", 1, 10)
	p.show("downloading", 9, 10)
	p.show("verifying", 10, 10)
	p.end()
	if out.String() != "downloading\nverifying\n" {
		t.Errorf("got %q", out.String())
	}
}

func TestATerminalIsKnown(t *testing.T) {
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo terminals here:", err)
	}
	defer ptmx.Close() //nolint:errcheck // nothing was written
	env := map[string]string{}
	a := &app{err: ptmx, env: func(key string) string { return env[key] }}
	if !a.newProgress().terminal {
		t.Error("a terminal is not taken for one")
	}
	env["TERM"] = "dumb"
	if a.newProgress().terminal {
		t.Error("a terminal that cannot erase lines is taken for one that can")
	}
	file, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // nothing was written
	if isTerminal(file) || isTerminal(&bytes.Buffer{}) {
		t.Error("a file is taken for a terminal")
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 3 << 19: "1.5 MiB", 5 << 30: "5.0 GiB", 2048 << 30: "2048.0 GiB",
	} {
		if got := size(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
