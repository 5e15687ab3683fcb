// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vmlet/vmlet/tests/harness"
)

var relistLine = regexp.MustCompile(`(?m)^kubelet_pleg_relist_duration_seconds_(sum|count) (\S+)$`)

// readRelists reads how often kubelet has listed its pods, and how long that took.
func readRelists(t *testing.T, k *harness.Kubelet) (sum total) {
	t.Helper()
	text, err := k.Get("/metrics")
	must(t, err)
	for _, m := range relistLine.FindAllStringSubmatch(text, -1) {
		v, err := strconv.ParseFloat(m[2], 64)
		must(t, err)
		if m[1] == "count" {
			sum.count = v
		} else {
			sum.took = time.Duration(v * float64(time.Second))
		}
	}
	return sum
}

// ticksPerSecond is USER_HZ of Linux, the unit of times in proc_pid_stat(5).
const ticksPerSecond = 100

// cpuTime is how long a process has run, in user and system mode.
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	// The name may have spaces and brackets: what follows its last bracket does not.
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	var ticks int64
	for _, field := range fields[11:13] { // utime and stime are the 14th and the 15th of all
		v, err := strconv.ParseInt(field, 10, 64)
		must(t, err)
		ticks += v
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond
}
