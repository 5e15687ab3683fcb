// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vmlet/vmlet/tests/harness"
)

// The words of the page that are others here: its image, and the gateway of its pod network.
const pageImage, pageGateway = "registry.example/tiny:1", "10.77.1.1"

// sessionStep is a command of the page, and what it prints there.
type sessionStep struct{ command, output string }

// TestTheSessionOnThePage runs the session of docs/vm-calls.md, as it is there, with vmletctl alone: what is printed differs in
// nothing but IDs, addresses, times and sizes.
func TestTheSessionOnThePage(t *testing.T) {
	steps := sessionOf(t, filepath.Join(harness.Repo(), "docs", "vm-calls.md"))
	node := harness.StartNode(t)
	dir := t.TempDir()
	var seen strings.Builder
	for _, step := range steps {
		got := runAsUser(t, node, dir, step.command)
		seen.WriteString("    # " + step.command + "\n")
		for line := range strings.Lines(got) {
			seen.WriteString("    " + line)
		}
		if plain(got) != plain(step.output) {
			t.Errorf("%s\nprints\n%sand on the page\n%s", step.command, got, step.output)
		}
	}
	t.Logf("as it was here:\n%s", seen.String())
}

// sessionOf reads the commands of the page's first section and what they print.
func sessionOf(t *testing.T, page string) (steps []sessionStep) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## A session\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for line := range strings.Lines(section) {
		line, shown := strings.CutPrefix(line, "    ")
		shown = shown || line == "\n" // one that a command prints
		command, is := strings.CutPrefix(line, "# ")
		switch {
		case shown && is:
			steps = append(steps, sessionStep{command: strings.TrimSpace(command)})
		case shown && len(steps) > 0:
			steps[len(steps)-1].output += line
		}
	}
	var commands []string
	for _, s := range steps {
		commands = append(commands, s.command)
	}
	all := strings.Join(commands, "\n")
	for _, must := range []string{"snapshot create", "snapshot restore", "nic attach", "ping"} {
		if !strings.Contains(all, must) {
			t.Fatalf("the session has no %q: %s", must, all)
		}
	}
	return steps
}

// runAsUser runs a line of the page, in a shell that finds vmletctl and the node, and returns all that it prints.
func runAsUser(t *testing.T, node *harness.Node, dir, command string) string {
	t.Helper()
	if !strings.HasPrefix(command, "vmletctl ") {
		t.Fatalf("%q is not vmletctl alone", command)
	}
	command = strings.NewReplacer(pageImage, harness.TinyImage(), pageGateway, node.BridgeIP(),
		"vmletctl run ", "vmletctl run --log-dir "+node.LogDir()+" ").Replace(command)
	cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(harness.Bin("vmletctl"))+":"+os.Getenv("PATH"), "VMLET_ADDRESS="+node.Socket())
	out, err := cmd.CombinedOutput()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		t.Fatalf("%s: %v", command, err)
	}
	return string(out)
}

// varying is what differs between two runs of one session, and what stands for it.
var varying = []struct {
	pattern *regexp.Regexp
	stands  string
}{
	{regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`\b[0-9a-f]{32}\b`), "ID"},
	{regexp.MustCompile(`\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b`), "MAC"},
	{regexp.MustCompile(`\b[0-9a-f]{4}(:[0-9a-f]{0,4}){2,7}(/\d+)?`), "IP"},
	{regexp.MustCompile(`\b\d+(\.\d+){3}(/\d+)?\b`), "IP"},
	{regexp.MustCompile(`\b\d+(\.\d+)? (B|KiB|MiB|GiB)\b`), "SIZE"},
	{regexp.MustCompile(`\b(\d+(\.\d+)?(ms|s|m|h))+\b`), "TIME"},
	{regexp.MustCompile(`\b\d+\.\d+\b`), "NUMBER"},
	{regexp.MustCompile(`[ \t]+`), " "},
	{regexp.MustCompile(`(?m)^ | $`), ""},
}

func plain(text string) string {
	for _, v := range varying {
		text = v.pattern.ReplaceAllString(text, v.stands)
	}
	return strings.TrimSpace(text)
}
