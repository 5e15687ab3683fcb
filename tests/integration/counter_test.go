// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vmlet/vmlet/tests/harness"
)

// counter is a program in a guest that writes numbered lines to the serial console, so
// that a lost or doubled line of the log is seen.
type counter struct{ pod *harness.Running }

// startCounter starts the counter in a guest that is ready.
func startCounter(pod *harness.Running) counter {
	pod.Exec("sh", "-c", "(i=0; while :; do i=$((i+1)); echo \"count $i end\" >/dev/console; sleep 0.05; done) >/dev/null 2>&1 </dev/null &")
	return counter{pod}
}

// atLeast waits for n lines in the log. Where they do not come, it tells how far they got: into the spool, or not out of
// the guest.
func (c counter) atLeast(t *testing.T, node *harness.Node, n int) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for got := len(c.numbers(t)); got < n; got = len(c.numbers(t)) {
		if time.Now().After(deadline) {
			spool := filepath.Join(node.LibDir, "node", "sandboxes", c.pod.SandboxID, "console-"+c.pod.ContainerID+".spool")
			b, err := os.ReadFile(spool)
			t.Fatalf("%d lines in the log, not %d; the spool has %d bytes (%v) and ends in %q; in the guest:\n%s",
				got, n, len(b), err, b[max(0, len(b)-100):], c.pod.Exec("sh", "-c", "ps -o pid,stat,args; cat /proc/interrupts /proc/tty/driver/serial; dmesg | tail -n 5"))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// numbers are the lines of the counter in the log.
func (c counter) numbers(t *testing.T) []int {
	t.Helper()
	var out []int
	for line := range strings.Lines(c.pod.Log()) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "count ")
		if !ok {
			continue
		}
		digits, ok := strings.CutSuffix(rest, " end")
		n, err := strconv.Atoi(digits)
		if !ok || err != nil {
			t.Errorf("a torn line in the log: %q", line)
			continue
		}
		out = append(out, n)
	}
	return out
}

// verify proves that the log has every line once, in order, and that it goes on.
func (c counter) verify(t *testing.T, pod *harness.Running) {
	t.Helper()
	so := len(c.numbers(t))
	deadline := time.Now().Add(20 * time.Second)
	for len(c.numbers(t)) <= so && time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond)
	}
	got := c.numbers(t)
	if len(got) <= so {
		t.Errorf("the log of %s does not go on", pod.DomainName())
	}
	for i, n := range got {
		if n != i+1 {
			t.Fatalf("line %d of the counter is %d: %s", i+1, n, around(got, i))
		}
	}
}

func around(numbers []int, i int) string {
	return fmt.Sprint(numbers[max(0, i-3):min(len(numbers), i+4)])
}
