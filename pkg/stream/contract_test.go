// SPDX-License-Identifier: Apache-2.0

package stream_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/vmlet/vmlet/pkg/agentlink/record"
	"github.com/vmlet/vmlet/pkg/crilog"
	"github.com/vmlet/vmlet/pkg/lifecycle/lifecycletest"
	"github.com/vmlet/vmlet/pkg/stream"
	"github.com/vmlet/vmlet/pkg/vm"
)

func TestConsolesKeepTheContract(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, format := range []vm.ConsoleFormat{vm.ConsoleRaw, vm.ConsoleRecords} {
		t.Run(string(format), func(t *testing.T) { lifecycletest.RunConsoles(t, contractEnv(format)) })
	}
}

func TestConsoleStreamsKeepTheContract(t *testing.T) {
	for _, format := range []vm.ConsoleFormat{vm.ConsoleRaw, vm.ConsoleRecords} {
		t.Run(string(format), func(t *testing.T) {
			defer goleak.VerifyNone(t)
			lifecycletest.RunConsoleStreams(t, contractEnv(format))
		})
	}
}

// contractEnv makes an environment whose consoles are of one format.
func contractEnv(format vm.ConsoleFormat) func(t *testing.T) lifecycletest.ConsolesEnv {
	return func(t *testing.T) lifecycletest.ConsolesEnv {
		t.Helper()
		dir := t.TempDir()
		consoles := stream.NewConsoles(stream.ConsoleOptions{OnError: func(id string, err error) {
			t.Errorf("%s: %v", id, err)
		}})
		t.Cleanup(func() {
			if err := consoles.Close(); err != nil {
				t.Error(err)
			}
		})
		return lifecycletest.ConsolesEnv{
			Consoles: consoles,
			Streams:  consoles,
			Console: func(id string, logged bool) vm.Console {
				c := vm.Console{
					ContainerID: id,
					Format:      format,
					Spool:       filepath.Join(dir, id+".spool"),
					Checkpoint:  filepath.Join(dir, id+".checkpoint"),
				}
				if logged {
					c.Log = filepath.Join(dir, id+".log")
				}
				appendTo(t, c.Spool, "")
				return c
			},
			Print: func(spool, output string) { appendTo(t, spool, inFormat(format, output)) },
			Rotate: func(from, to string) {
				if err := os.Rename(from, to); err != nil {
					t.Fatal(err)
				}
			},
			Log: func(path string) string { return textOf(t, path) },
			SpoolExists: func(spool string) bool {
				_, err := os.Stat(spool)
				return err == nil
			},
		}
	}
}

// inFormat is output as it stands in a spool.
func inFormat(format vm.ConsoleFormat, output string) string {
	if format == vm.ConsoleRaw {
		return output
	}
	var b []byte
	for line := range strings.Lines(output) {
		flags := record.Flags(0)
		if !strings.HasSuffix(line, "\n") {
			flags = record.Partial
		}
		b = record.Append(b, flags, []byte(strings.TrimSuffix(line, "\n")))
	}
	return string(b)
}

func appendTo(t *testing.T, path, output string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(output); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// textOf returns what the whole entries of a log say.
func textOf(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var text strings.Builder
	for line := range bytes.Lines(b) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // it is being written
		}
		e, err := crilog.Parse(line[:len(line)-1])
		if err != nil {
			t.Fatal(err)
		}
		text.Write(e.Payload)
		if !e.Partial {
			text.WriteByte('\n')
		}
	}
	return text.String()
}
