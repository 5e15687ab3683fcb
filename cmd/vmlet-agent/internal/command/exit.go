// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/process"
)

const (
	maxID         = 256
	maxStartError = 4 << 10
	// maxTerminationLog is what kubelet takes of it.
	maxTerminationLog = 4 << 10
	// notExecutable is a shell's exit code for a program that it cannot start.
	notExecutable = 126
)

// truncate cuts a text off, at the beginning of a character.
func truncate(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "")
}

// tail returns the end of a file; nothing if the file is not there, or is none that could be
// read without waiting.
func tail(path string, most int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-most), most))
}

// killedForMemory tells whether the kernel killed the command for memory. The command may be
// a shell that lost what it ran and says so by its exit code.
func killedForMemory(p *process.Process, exit process.Exit) bool {
	if exit.Code != 128+int32(syscall.SIGKILL) {
		return false
	}
	// Not as an os.File, which would wait where the log ends.
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false // a kernel that does not tell
	}
	defer unix.Close(fd) //nolint:errcheck // read only
	return oomKill(descriptor(fd), exit.Signal, p.PID(), sinceBoot(p.Started()))
}

type descriptor int

// Read implements io.Reader.
func (d descriptor) Read(b []byte) (int, error) {
	n, err := unix.Read(int(d), b)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return max(n, 0), err
}

// sinceBoot is a time as the kernel's log has it.
func sinceBoot(t time.Time) time.Duration {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return 0
	}
	return time.Duration(now.Nano()) - time.Since(t)
}

// oomKill looks for a process that was killed for memory, in records of /dev/kmsg: pid if a
// signal ended it, else any from then on.
func oomKill(kmsg io.Reader, signal int32, pid int, from time.Duration) bool {
	buf := make([]byte, 8<<10) // each read is a record, and none is longer
	for {
		n, err := kmsg.Read(buf)
		if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.EINTR) {
			continue // overwritten meanwhile; the next one is there
		}
		if err != nil {
			return false
		}
		at, victim, ok := parseOOMKill(string(buf[:n]))
		// The log's clock runs a little behind.
		if ok && at >= from-time.Second && (signal == 0 || victim == pid) {
			return true
		}
	}
}

// parseOOMKill reads a record such as "3,1234,5678901,-;Out of memory: Killed process 123 (x)".
func parseOOMKill(record string) (at time.Duration, pid int, ok bool) {
	head, text, _ := strings.Cut(record, ";")
	fields := strings.Split(head, ",")
	_, victim, ok := strings.Cut(text, "Killed process ")
	if !ok || len(fields) < 3 {
		return 0, 0, false
	}
	micros, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil {
		return 0, 0, false
	}
	number, _, _ := strings.Cut(victim, " ")
	pid, err = strconv.Atoi(number)
	return time.Duration(micros) * time.Microsecond, pid, err == nil
}
