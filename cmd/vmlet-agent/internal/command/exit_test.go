// SPDX-License-Identifier: Apache-2.0

package command

import (
	"io"
	"syscall"
	"testing"
	"time"
)

// kmsg reads as /dev/kmsg does, record by record.
type kmsg []string

func (k *kmsg) Read(b []byte) (int, error) {
	if len(*k) == 0 {
		return 0, syscall.EAGAIN
	}
	record := (*k)[0]
	*k = (*k)[1:]
	if record == "overwritten" {
		return 0, syscall.EPIPE
	}
	return copy(b, record), nil
}

var _ io.Reader = (*kmsg)(nil)

func TestAKillForMemoryIsReadFromTheKernelsLog(t *testing.T) {
	log := []string{
		"6,1,1000000,-;Linux version 6.1\n",
		"overwritten",
		"3,800,20000000,-;Out of memory: Killed process 42 (stress) total-vm:1kB\n",
		"3,801,30000000,-;Memory cgroup out of memory: Killed process 43 (child) total-vm:1kB\n SUBSYSTEM=x\n",
		"6,802,40000000,-;Killed process of something else\n",
	}
	tests := map[string]struct {
		signal int32
		pid    int
		from   time.Duration
		want   bool
	}{
		"the command itself":          {9, 42, 19 * time.Second, true},
		"another one":                 {9, 44, 19 * time.Second, false},
		"the same PID, before":        {9, 42, 25 * time.Second, false},
		"what a shell ran":            {0, 44, 25 * time.Second, true},
		"nothing since":               {0, 44, 35 * time.Second, false},
		"a clock that runs ahead":     {9, 42, 20*time.Second + 500*time.Millisecond, true},
		"the part of another's PID 4": {9, 4, 0, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			k := append(kmsg{}, log...)
			if got := oomKill(&k, tt.signal, tt.pid, tt.from); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestSignalsHaveTheirNames(t *testing.T) {
	for name, want := range map[string]syscall.Signal{
		"SIGTERM": 15, "TERM": 15, "sigkill": 9, "SIGRTMIN": 34, "SIGRTMIN+3": 37, "SIGRTMAX": 64, "SIGRTMAX-14": 50, "1": 1, "64": 64,
		"": 0, "SIG": 0, "SIGNOPE": 0, "0": 0, "65": 0, "-1": 0, "SIGRTMAX+1": 0, "SIGRTMIN-1": 0, "SIGRTMIN3": 0, "SIGRTMIN+": 0,
	} {
		got, err := signalNumber(name)
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %d, %v", name, got, err)
		}
	}
}
