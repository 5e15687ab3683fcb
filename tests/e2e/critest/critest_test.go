// SPDX-License-Identifier: Apache-2.0

//go:build integration

package critest

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vmlet/vmlet/tests/harness"
)

// TestSpecsThatMustPass runs the specs of passing.txt. With VMLET_CRITEST_ALL=1 it runs those
// of not-yet.txt too, which takes long since most of them wait; one that passes has to move.
func TestSpecsThatMustPass(t *testing.T) {
	passing := readList(t, "passing.txt")
	wanted := passing
	if os.Getenv("VMLET_CRITEST_ALL") != "" {
		wanted = append(slices.Clone(passing), readList(t, "not-yet.txt")...)
	}
	node := harness.NewNode(t, withAliases(t))
	node.Start()

	results := run(t, "-runtime-endpoint=unix://"+node.Socket(), "-ginkgo.focus="+focus(wanted), "-ginkgo.timeout=20m")
	for _, name := range passing {
		if r := results[name]; r.Status != passed {
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
			t.Errorf("%s: passes; move it from not-yet.txt to passing.txt", name)
		}
	}
	t.Logf("%d specs passed", count)
}

// TestEverySpecIsListed holds the two lists against the suite itself.
func TestEverySpecIsListed(t *testing.T) {
	listed := append(readList(t, "passing.txt"), readList(t, "not-yet.txt")...)
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

// run runs critest and returns what came of each spec. Its exit status is not looked at: the
// report says more. Some specs mount file systems or make shared memory, and leave them there.
func run(t *testing.T, args ...string) map[string]result {
	t.Helper()
	report := filepath.Join(t.TempDir(), "junit.xml")
	cmd := exec.CommandContext(t.Context(), harness.Bin("critest"), append(args, "-ginkgo.no-color", "-ginkgo.junit-report="+report)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC}
	out, err := cmd.CombinedOutput()
	t.Logf("critest: %v\n%s", err, out)
	return readReport(t, report)
}

// focus is a regular expression that these specs match and no others. Ginkgo matches it with the
// name of the suite and that of the spec; the label Serial is only in reports.
func focus(specs []string) string {
	quoted := make([]string, len(specs))
	for i, s := range specs {
		quoted[i] = regexp.QuoteMeta(strings.TrimSuffix(s, " [Serial]"))
	}
	return fmt.Sprintf(" (%s)$", strings.Join(quoted, "|"))
}

func orNotRun(status string) string {
	if status == "" {
		return "not run"
	}
	return status
}
