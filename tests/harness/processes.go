// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Processes are those that have all of the words on their command line.
func Processes(t *testing.T, words ...string) (pids []int) {
	t.Helper()
	pids, err := processes(words...)
	if err != nil {
		t.Fatal(err)
	}
	return pids
}

func processes(words ...string) (pids []int, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
next:
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		cmdline, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil {
			continue // it has ended
		}
		for _, word := range words {
			if !strings.Contains(string(cmdline), word) {
				continue next
			}
		}
		pids = append(pids, pid)
	}
	return pids, nil
}
