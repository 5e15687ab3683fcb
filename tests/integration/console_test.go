// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// TestConsoleOverKills: no line lost or doubled over three kill -9 of vmlet while the guest
// writes, with a rotation in between.
func TestConsoleOverKills(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{Name: "talker"})
	pod.WaitReady()
	lines := startCounter(pod)
	for range 3 {
		lines.atLeast(t, node, len(lines.numbers(t))+5)
		node.Kill9()
		node.Start()
	}
	lines.verify(t, pod)
}

// criLine is one entry of a CRI log.
var criLine = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d) stdout [FP] [^\r\n]*\n?$`)

// TestRotationAndFormat: kubelet renames the log and asks for a new one; the old file gets
// nothing more, nothing is lost between them, and all of it is in CRI's format.
func TestRotationAndFormat(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{Name: "rotate"})
	pod.WaitReady()
	lines := startCounter(pod)
	lines.atLeast(t, node, 5)
	old := pod.LogPath() + ".20260101-000000"
	if err := os.Rename(pod.LogPath(), old); err != nil {
		t.Fatal(err)
	}
	if _, err := node.ReopenContainerLog(t.Context(), &runtimeapi.ReopenContainerLogRequest{ContainerId: pod.ContainerID}); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(old)
	if err != nil {
		t.Fatal(err)
	}
	lines.atLeast(t, node, 5)
	stop(t, node, pod.ContainerID, 0)
	after, err := os.ReadFile(old)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(after, before) {
		t.Errorf("the rotated file grew by %d bytes", len(after)-len(before))
	}
	fresh, err := os.ReadFile(pod.LogPath())
	if err != nil {
		t.Fatal(err)
	}
	whole := string(before) + string(fresh)
	for line := range strings.Lines(whole) {
		if !criLine.MatchString(line) {
			t.Errorf("no CRI log entry: %q", line)
		}
	}
	if err := os.WriteFile(pod.LogPath(), []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	got := lines.numbers(t)
	for i, n := range got {
		if n != i+1 {
			t.Fatalf("line %d is %d: %s", i+1, n, around(got, i))
		}
	}
}
