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

// Numbers are those of the lines "WORD NUMBER" that a pod's VM printed, in order: as they are on disk, with all that
// kubelet has rotated away. Files that are compressed are not read.
func (k *Kubelet) Numbers(name, word string) []int {
	k.t.Helper()
	files, err := filepath.Glob(filepath.Join(k.LogDir(), "default_"+name+"-"+kubeletNode+"_*", "vm", "*.log*"))
	if err != nil {
		k.t.Fatal(err)
	}
	slices.Sort(files)
	if len(files) > 1 { // the first is the present one: the others have the time of their end after its name
		files = append(files[1:], files[0])
	}
	var numbers []int
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			k.t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if n, ok := numberOf(line, word); ok {
				numbers = append(numbers, n)
			}
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
	files, err := filepath.Glob(filepath.Join(k.LogDir(), "default_"+name+"-"+kubeletNode+"_*", "vm", "*.log"))
	if err != nil || len(files) == 0 {
		k.t.Fatalf("log files of %s: %v, %v", name, files, err)
	}
	slices.Sort(files)
	text, err := os.ReadFile(files[len(files)-1])
	if err != nil {
		k.t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
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
