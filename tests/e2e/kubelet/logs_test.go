// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kubelet

import (
	"bufio"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vmlet/vmlet/tests/harness"
)

// printed is how many lines the printer prints, in bursts of burst.
const printed, burst = 20000, 500

const printer = `apiVersion: v1
kind: Pod
metadata: {name: printer}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: vm
    image: IMAGE
    command: [sh, -c, 'i=0; while [ $i -lt %d ]; do awk -v a=$i "BEGIN { for (i = a + 1; i <= a + %d; i++) print \"line \" i }"; i=$((i + %[2]d)); sleep 0.4; done; echo over; sleep 1000000']
`

// speaker ends once, and speaks in two parts then.
const speaker = `apiVersion: v1
kind: Pod
metadata: {name: speaker}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: vm
    image: IMAGE
    command: [sh, -c, 'if [ -e /was ]; then for i in 1 2 3; do echo early $i; done; sleep 3; for i in 4 5 6; do echo late $i; done; sleep 1000000; fi; touch /was; sync; echo first life; exit 3']
`

// TestLogsThroughKubelet: what a VM's command prints, as kubelet's server tells it and as kubelet's rotation leaves it.
func TestLogsThroughKubelet(t *testing.T) {
	node := harness.StartNode(t)
	k := harness.StartKubelet(t, node, harness.WithKubeletConfig(`containerLogMaxSize: 64Ki
containerLogMaxFiles: 100
containerLogMonitorInterval: 3s`))
	k.Apply("printer", fmt.Sprintf(printer, printed, burst))
	k.Apply("speaker", speaker)
	k.WaitLog("printer", "line ")
	followed := follow(t, k, "printer")

	var files [][]string
	t.Run("rotation under load loses and doubles no line", func(t *testing.T) {
		node.Eventually(3*time.Minute, func() (err error) {
			if files, err = k.RotatedLog("printer"); err == nil && !slices.Contains(slices.Concat(files...), "over") {
				err = fmt.Errorf("the printer prints, in file %d", len(files))
			}
			return err
		})
		if len(files) < 4 {
			t.Errorf("kubelet has rotated %d times only", len(files)-1)
		}
		all := slices.Concat(files...)
		for i, line := range all[:min(len(all), printed)] {
			if line != "line "+strconv.Itoa(i+1) {
				t.Fatalf("line %d is %q; before it %q", i+1, line, all[max(0, i-2):i])
			}
		}
		if len(all) != printed+1 {
			t.Errorf("there are %d lines", len(all))
		}
		t.Logf("%d lines in %d files", len(all), len(files))
	})
	t.Run("following goes on over rotations", func(t *testing.T) { checkFollowed(t, files, <-followed) })
	t.Run("tail, since, timestamps and previous", func(t *testing.T) { askForParts(t, k) })
}

// follow reads a log until its command is over.
func follow(t *testing.T, k *harness.Kubelet, name string) <-chan []string {
	t.Helper()
	body, err := k.Follow(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan []string, 1)
	go func() {
		defer body.Close() //nolint:errcheck // read as far as it is wanted
		var lines []string
		for scan := bufio.NewScanner(body); scan.Scan() && scan.Text() != "over"; {
			lines = append(lines, scan.Text())
		}
		done <- lines
	}()
	return done
}

// checkFollowed: what was followed is in order and without a double. kubelet's reader leaves a file at its end when the
// next one appears (ReadLogs in k8s.io/cri-client/pkg/logs): of what was written into the old one between its renaming
// and ReopenContainerLog it may have missed the tail, whatever the runtime does. So a gap may end where a file begins,
// and nowhere else.
func checkFollowed(t *testing.T, files [][]string, lines []string) {
	t.Helper()
	begins := map[int]bool{}
	for _, file := range files {
		if len(file) > 0 {
			begins[number(file[0])] = true
		}
	}
	last := 0
	for _, line := range lines {
		n := number(line)
		if n != last+1 && (n <= last || !begins[n]) {
			t.Fatalf("%q after line %d", line, last)
		}
		last = n
	}
	if last != printed && !begins[printed+1] {
		t.Errorf("followed to line %d of %d", last, printed)
	}
	t.Logf("followed %d of %d lines over %d rotations", len(lines), printed, len(files)-1)
}

// number is that of a line of the printer; what is none is one too many.
func number(line string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(line, "line "))
	if err != nil {
		return printed + 1
	}
	return n
}

func askForParts(t *testing.T, k *harness.Kubelet) {
	t.Helper()
	pod := k.WaitRestarts("speaker", 1)
	if was := pod.VM().LastState.Terminated; was == nil || was.ExitCode != 3 {
		t.Errorf("the first life ended as %+v", was)
	}
	k.WaitLog("speaker", "late 6")
	ask := func(query string) string {
		t.Helper()
		text, err := k.Get(k.PodPath("containerLogs", "speaker") + query)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	stamped := strings.Split(strings.TrimSpace(ask("?timestamps=true")), "\n")
	if len(stamped) != 6 {
		t.Fatalf("the log is %q", stamped)
	}
	var late time.Time
	for i, line := range stamped {
		stamp, text, _ := strings.Cut(line, " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if err != nil || !strings.HasSuffix(text, strconv.Itoa(i+1)) || time.Since(at) > 5*time.Minute || time.Until(at) > 0 {
			t.Errorf("line %d is %q: %v", i+1, line, err)
		}
		if i == 3 {
			late = at
		}
	}
	for query, want := range map[string]string{
		"":              "early 1\nearly 2\nearly 3\nlate 4\nlate 5\nlate 6\n",
		"?tailLines=2":  "late 5\nlate 6\n",
		"?tailLines=0":  "",
		"?limitBytes=9": "early 1\ne",
		// kubelet reads whole seconds; the parts are 3 s apart.
		"?sinceTime=" + late.UTC().Format(time.RFC3339): "late 4\nlate 5\nlate 6\n",
		"?previous=true": "first life\n",
	} {
		if got := ask(query); got != want {
			t.Errorf("%q gives %q, want %q", query, got, want)
		}
	}
	if _, err := k.Get(k.PodPath("containerLogs", "speaker") + "x"); err == nil {
		t.Error(errors.New("a container that is not there has a log"))
	}
}
