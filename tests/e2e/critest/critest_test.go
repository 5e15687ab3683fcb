// SPDX-License-Identifier: Apache-2.0

//go:build integration

package critest

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vmlet/vmlet/tests/harness"
)

// focusVar limits a run by hand to the specs that a regular expression fits.
const focusVar = "VMLET_CRITEST_FOCUS"

// firstHalf are the groups whose specs take as long as all others.
const firstHalf = "Security Context (bucket|SeccompProfilePath|NamespaceOption)|NoNewPrivs should not"

// TestSpecsThatMustPass runs the whole suite in random order, in two halves at once, each on a node of its own: most of the time a
// spec waits. Those of skipped.txt run as well: one that passes by now has to move.
func TestSpecsThatMustPass(t *testing.T) {
	passing := readList(t, "passing.txt")
	focus := os.Getenv(focusVar)
	flags := []string{"-ginkgo.focus=" + firstHalf, "-ginkgo.skip=" + firstHalf}
	if focus != "" {
		flags = []string{"-ginkgo.focus=" + focus}
	}
	halves := make([]map[string]result, len(flags))
	t.Run("suite", func(t *testing.T) { // whose nodes end when both halves have: each looks for what is left on the host
		aliases := withAliases(t)
		for i, flag := range flags {
			node := harness.NewNode(t, aliases)
			node.Start()
			t.Run(flag, func(t *testing.T) {
				t.Parallel()
				halves[i] = run(t, "-runtime-endpoint=unix://"+node.Socket(), "-ginkgo.timeout=25m", "-ginkgo.randomize-all", flag)
			})
		}
	})
	results := map[string]result{}
	for _, half := range halves {
		took := 0.0
		for name, r := range half {
			took += r.Seconds
			if r.Seconds > 10 {
				t.Logf("%s: %.0f s", name, r.Seconds)
			}
			if r.Status != skipped || results[name].Status == "" {
				results[name] = r
			}
		}
		t.Logf("specs took %.0f s", took)
	}
	for _, name := range passing {
		r := results[name]
		if r.Status != passed && (focus == "" || r.Status != skipped) {
			t.Errorf("%s: %s after %.1f s\n%s\n%s", name, orNotRun(r.Status), r.Seconds, r.Failure.Message, r.Failure.Text)
		}
	}
	count := 0
	for _, name := range slices.Sorted(maps.Keys(results)) {
		if results[name].Status != passed {
			continue
		}
		count++
		if !slices.Contains(passing, name) {
			t.Errorf("%s: passes; move it from skipped.txt to passing.txt", name)
		}
	}
	t.Logf("%d specs passed", count)
}

// TestEverySpecIsListed holds the two lists against the suite itself.
func TestEverySpecIsListed(t *testing.T) {
	listed := append(readList(t, "passing.txt"), readList(t, "skipped.txt")...)
	results := run(t, "-ginkgo.dry-run")
	for _, name := range listed {
		if _, ok := results[name]; !ok {
			t.Errorf("%s: no such spec in critest", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(results)) {
		// The suite leaves benchmarks out by itself; SELinux specs exist only where the host has it.
		if results[name].Status == skipped || strings.Contains(name, "SELinux") {
			continue
		}
		if !slices.Contains(listed, name) {
			t.Errorf("%s: is in neither list", name)
		}
	}
	for i, name := range listed {
		if slices.Contains(listed[i+1:], name) {
			t.Errorf("%s: is in both lists", name)
		}
	}
}

// TestEverySkipHasItsReason: a line of its own above the spec, or above its group.
func TestEverySkipHasItsReason(t *testing.T) {
	text, err := os.ReadFile("skipped.txt")
	if err != nil {
		t.Fatal(err)
	}
	_, groups, _ := strings.Cut(string(text), "\n\n")
	for group := range strings.SplitSeq(groups, "\n\n") {
		reason, specs, _ := strings.Cut(strings.TrimSpace(group), "\n")
		if !strings.HasPrefix(reason, "# ") || !strings.HasPrefix(specs, "[k8s.io] ") {
			t.Errorf("%q is no reason and its specs", group)
		}
	}
}

// run runs critest on the "host" of TestMain and returns what came of each spec. Its exit status is not looked at: the
// report says more.
func run(t *testing.T, args ...string) map[string]result {
	t.Helper()
	report := filepath.Join(t.TempDir(), "junit.xml")
	cmd := exec.CommandContext(t.Context(), "nsenter", append([]string{"--mount=/proc/" + os.Getenv(hostVar) + "/ns/mnt", "--wd=.",
		harness.Bin("critest"), "-ginkgo.no-color", "-ginkgo.junit-report=" + report}, args...)...)
	out, err := cmd.CombinedOutput()
	t.Logf("critest: %v\n%s", err, out)
	return readReport(t, report)
}

func orNotRun(status string) string {
	if status == "" {
		return "not run"
	}
	return status
}
