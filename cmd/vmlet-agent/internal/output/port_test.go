// SPDX-License-Identifier: Apache-2.0

package output_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/output"
	"github.com/vmlet/vmlet/pkg/agentlink/record"
)

// newPort returns a port and the host's end of it.
func newPort(t *testing.T) (*output.Port, *os.File) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "port")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	host, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	port, err := output.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(port.Close(), host.Close()) }) //nolint:errcheck // the test is over
	return port, host
}

// records decodes what comes out of a port.
type records struct {
	host *os.File
	buf  []byte
	d    record.Decoder
}

func (r *records) next(t *testing.T) (record.Flags, string) {
	t.Helper()
	for {
		rec, n, err := r.d.Next(r.buf)
		if err != nil {
			t.Fatal(err)
		}
		if r.buf = r.buf[n:]; n > 0 {
			return rec.Flags, string(rec.Payload)
		}
		b := make([]byte, 4096)
		n, err = r.host.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		r.buf = append(r.buf, b[:n]...)
	}
}

func TestWhatACommandWritesComesOutOfThePort(t *testing.T) {
	port, host := newPort(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- port.Copy(r, record.Stderr) }()
	out := records{host: host}
	expect := func(flags record.Flags, payload string) {
		t.Helper()
		if f, p := out.next(t); f != flags || p != payload {
			t.Errorf("got %b %q, want %b %q", f, p, flags, payload)
		}
	}
	write := func(s string) {
		t.Helper()
		if _, err := w.WriteString(s); err != nil {
			t.Fatal(err)
		}
	}
	write("a line\n")
	expect(record.Stderr, "a line")
	write("password: ")
	expect(record.Stderr|record.Partial, "password: ") // without any more of it
	write("\nthe end")
	expect(record.Stderr, "")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	expect(record.Stderr|record.Unterminated, "the end")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAPortBeginsInStep(t *testing.T) {
	port, host := newPort(t)
	half := record.Append(nil, 0, []byte("of an agent that was killed"))[:7]
	if _, err := host.Write(half); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("whole\n"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := port.Copy(r, 0); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := host.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	var d record.Decoder
	_, skip, err := d.Next(b[:n])
	if !errors.Is(err, record.ErrMalformed) {
		t.Errorf("the half: %v", err)
	}
	if rec, _, err := d.Next(b[skip:n]); err != nil || string(rec.Payload) != "whole" {
		t.Errorf("%q, %v", rec.Payload, err)
	}
}

func TestAMachineWithoutThePort(t *testing.T) {
	if _, err := output.Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
