// SPDX-License-Identifier: Apache-2.0

//go:build failpoints

// Package failpoint marks the places where a crash must be survived. In this build a
// mark can record itself, kill the process, or hold up who passes it.
//
//	VMLET_FAILPOINT_RECORD=FILE  append the name of every mark that is hit to FILE
//	VMLET_FAILPOINT_KILL=FILE    FILE holds "NAME N": the N-th hit of NAME, counted
//	                             from the process's start, kills it with SIGKILL
//	VMLET_FAILPOINT_HOLD=FILE    FILE holds "NAME N": who makes the N-th hit of NAME
//	                             goes on when FILE is gone. FILE.held is there meanwhile
package failpoint

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

var state struct {
	sync.Mutex
	hits map[string]int
}

// Hit is called at the mark named name. Names are stable: they hold no IDs.
func Hit(name string) {
	name = strings.Join(strings.Fields(name), "-")
	hit := count(name)
	if path := os.Getenv("VMLET_FAILPOINT_HOLD"); names(path, name, hit) {
		hold(path)
	}
}

func count(name string) int {
	state.Lock()
	defer state.Unlock()
	if state.hits == nil {
		state.hits = map[string]int{}
	}
	state.hits[name]++
	record(name)
	if names(os.Getenv("VMLET_FAILPOINT_KILL"), name, state.hits[name]) {
		// SIGKILL, not os.Exit: nothing of this process may run after the mark.
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	return state.hits[name]
}

func record(name string) {
	path := os.Getenv("VMLET_FAILPOINT_RECORD")
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	if _, err := fmt.Fprintln(f, name); err != nil {
		panic(err)
	}
	if err := f.Close(); err != nil {
		panic(err)
	}
}

// names tells whether a file names this hit of a mark.
func names(path, name string, hit int) bool {
	if path == "" {
		return false
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	var want string
	var n int
	if _, err := fmt.Sscan(string(b), &want, &n); err != nil {
		return false
	}
	return want == name && n == hit
}

// hold waits, without the lock: other marks are passed meanwhile.
func hold(path string) {
	held := path + ".held"
	if err := os.WriteFile(held, nil, 0o600); err != nil {
		panic(err)
	}
	for {
		if _, err := os.Stat(path); err != nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := os.Remove(held); err != nil {
		panic(err)
	}
}
