// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vmlet/vmlet/pkg/vm"
)

func benchConsole(b *testing.B, dir, id, output string) vm.Console {
	b.Helper()
	c := vm.Console{
		ContainerID: id,
		Spool:       filepath.Join(dir, id+".spool"),
		Checkpoint:  filepath.Join(dir, id+".checkpoint"),
		Log:         filepath.Join(dir, id+".log"),
	}
	if err := os.WriteFile(c.Spool, []byte(output), 0o600); err != nil {
		b.Fatal(err)
	}
	return c
}

// BenchmarkCopy copies a spool of lines like a boot's into a log.
func BenchmarkCopy(b *testing.B) {
	const line = "[    1.234567] virtio_net virtio0 enp1s0: renamed from eth0 and something more\r\n"
	output := strings.Repeat(line, 32<<20/len(line))
	for b.Loop() {
		b.StopTimer()
		c := benchConsole(b, b.TempDir(), "c", output)
		con, err := openConsole(c, realKernel(), limits{spoolCap: 1 << 40, punchStep: punchStep, partialAfter: time.Second}, time.Now)
		if err != nil {
			b.Fatal(err)
		}
		buf := newBuffers()
		b.StartTimer()
		if err := con.copy(b.Context(), buf, false); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if con.pos.Spool != int64(len(output)) {
			b.Fatal("not all was copied")
		}
		if err := con.close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.SetBytes(int64(len(output)))
}

// BenchmarkLine is the time from a guest's line to its entry in the log file.
func BenchmarkLine(b *testing.B) {
	cs := NewConsoles(ConsoleOptions{})
	b.Cleanup(func() {
		if err := cs.Close(); err != nil {
			b.Error(err)
		}
	})
	c := benchConsole(b, b.TempDir(), "c", "")
	if err := cs.Follow(b.Context(), c); err != nil {
		b.Fatal(err)
	}
	spool, err := os.OpenFile(c.Spool, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	size := int64(0)
	for b.Loop() {
		if _, err := spool.WriteString("a line\n"); err != nil {
			b.Fatal(err)
		}
		size += int64(len("2026-01-02T03:04:05.000000006Z stdout F a line\n"))
		for {
			if info, err := os.Stat(c.Log); err == nil && info.Size() == size {
				break
			}
			time.Sleep(100 * time.Microsecond)
		}
	}
}

// BenchmarkFollowed is what a console costs that prints nothing.
func BenchmarkFollowed(b *testing.B) {
	const consoles = 1000
	for b.Loop() {
		dir := b.TempDir()
		cs := NewConsoles(ConsoleOptions{})
		heap, rss := memory(b)
		for i := range consoles {
			if err := cs.Follow(b.Context(), benchConsole(b, dir, fmt.Sprint("c", i), "booted\nlogin: ")); err != nil {
				b.Fatal(err)
			}
		}
		time.Sleep(2 * partialAfter)
		heapAfter, rssAfter := memory(b)
		b.ReportMetric(float64(heapAfter-heap)/consoles, "heap-B/console")
		b.ReportMetric(float64(rssAfter-rss)/consoles, "rss-B/console")
		b.ReportMetric(float64(runtime.NumGoroutine()), "goroutines")
		if err := cs.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func memory(b *testing.B) (heap, rss int64) {
	b.Helper()
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return int64(m.HeapAlloc), pages * int64(os.Getpagesize())
}
