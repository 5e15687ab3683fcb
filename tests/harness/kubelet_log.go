// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// LogOnDisk is what a pod's VM printed, with the times, as it is on disk: also what kubelet has rotated away, and what it
// shows nobody any more because the pod was deleted. Files that are compressed are not read.
func (k *Kubelet) LogOnDisk(name string) string {
	k.t.Helper()
	files, err := filepath.Glob(filepath.Join(k.LogDir(), "default_"+name+"-"+kubeletNode+"_*", "vm", "*.log*"))
	if err != nil {
		k.t.Fatal(err)
	}
	slices.Sort(files)
	if len(files) > 1 && strings.HasPrefix(files[1], files[0]+".") { // what was rotated has the time of it after its name
		files = append(files[1:], files[0])
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			k.t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}

// Numbers are those of the lines "WORD NUMBER" that a pod's VM printed, in order, as they are on disk.
func (k *Kubelet) Numbers(name, word string) []int {
	k.t.Helper()
	var numbers []int
	for line := range strings.Lines(k.LogOnDisk(name)) {
		if n, ok := numberOf(line, word); ok {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// numberOf takes the number of "TIME STREAM F WORD NUMBER".
func numberOf(line, word string) (int, bool) {
	fields := strings.Fields(line)
	if len(fields) != 5 || fields[3] != word || !strings.HasSuffix(line, "\n") {
		return 0, false
	}
	n, err := strconv.Atoi(fields[4])
	return n, err == nil
}

// LastLogged is the time of the last line that a pod's VM printed.
func (k *Kubelet) LastLogged(name string) time.Time {
	k.t.Helper()
	lines := strings.Split(strings.TrimSpace(k.LogOnDisk(name)), "\n")
	stamp, _, _ := strings.Cut(lines[len(lines)-1], " ")
	at, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		k.t.Fatal(err)
	}
	return at
}

// CheckNumbers finds a gap or a double in a series that begins with 1.
func CheckNumbers(numbers []int) error {
	for i, n := range numbers {
		if n != i+1 {
			return fmt.Errorf("line %d is %d: %v", i+1, n, numbers[max(0, i-3):min(len(numbers), i+4)])
		}
	}
	return nil
}
