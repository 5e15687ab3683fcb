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
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
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
	return pids
}
