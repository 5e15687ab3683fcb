// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// killTime bounds the hunt for processes that fork faster than they are found.
const killTime = 5 * time.Second

// killSession kills all processes of a session. One that is to die forks no more, so when a
// look around finds none but those, none is left. reaped says that the leader's number is
// free: if a process has it, it is another one's, and so is the session.
func killSession(sid int, reaped bool) error {
	dying := map[int]bool{}
	for deadline := time.Now().Add(killTime); ; {
		members, err := sessionOf(sid)
		if err != nil {
			return err
		}
		found := false
		for _, pid := range members {
			if reaped && pid == sid {
				return nil
			}
			if dying[pid] {
				continue
			}
			found, dying[pid] = true, true
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
		}
		switch {
		case !found:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("session %d: it forks faster than it can be killed", sid)
		}
	}
}

// sessionOf returns the living processes of a session.
func sessionOf(sid int) ([]int, error) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer proc.Close() //nolint:errcheck // read only
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	want := []byte(strconv.Itoa(sid))
	var pids []int
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue // it has ended
		}
		// pid (comm) state ppid pgrp session; comm may hold anything.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) > 3 && bytes.Equal(fields[3], want) && fields[0][0] != 'Z' && fields[0][0] != 'X' {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// KillSession kills all processes of the session that a process leads, of an agent before.
func KillSession(leader int) error { return killSession(leader, false) }
