// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// TestCommandIsTheGuestsMainProcess: with arguments, environment, working directory and
// user of the container. Its output is the log, line by line, stream by stream, and its end
// is the container's.
func TestCommandIsTheGuestsMainProcess(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{
		Name: "command",
		Command: []string{"sh", "-c", `echo "args: $0 $1"; echo "env: $GREETING"; echo "cwd: $(pwd)"; echo "user: $(id -u):$(id -g) $HOME"
printf 'no newline at the end' >&2; sleep 0.3; echo ' but later' >&2; printf 'last words'; exit 7`},
		Container: func(c *runtimeapi.ContainerConfig) {
			c.Args = []string{"zero", "one and a half"}
			c.Envs = []*runtimeapi.KeyValue{{Key: "GREETING", Value: []byte("it's a \"value\"\twith $things")}}
			c.WorkingDir = "/var/log"
			c.Linux.SecurityContext = &runtimeapi.LinuxContainerSecurityContext{
				RunAsUser: &runtimeapi.Int64Value{Value: 1000}, RunAsGroup: &runtimeapi.Int64Value{Value: 50000},
			}
		},
	})
	st := pod.WaitExited()
	if st.GetExitCode() != 7 || st.GetReason() != "Error" {
		t.Errorf("exit %d %s (%s), want 7 Error", st.GetExitCode(), st.GetReason(), st.GetMessage())
	}
	stdout := "args: zero one and a half\nenv: it's a \"value\"\twith $things\ncwd: /var/log\nuser: 1000:50000 /home/default-user\nlast words\n"
	if diff := cmp.Diff(stdout, pod.Output("stdout")); diff != "" {
		t.Errorf("stdout, want -, got +:\n%s", diff)
	}
	if diff := cmp.Diff("no newline at the end but later\n", pod.Output("stderr")); diff != "" {
		t.Errorf("stderr, want -, got +:\n%s", diff)
	}
	var partial bool
	for _, line := range pod.LogLines() {
		partial = partial || line.Partial && line.Stream == "stderr" && line.Text == "no newline at the end"
	}
	if !partial {
		t.Errorf("what was written without a newline was held back: %+v", pod.LogLines())
	}
}

// TestHowCommandsEnd: each command is that of a pod of its own.
func TestHowCommandsEnd(t *testing.T) {
	node := harness.StartNode(t)
	for i, tc := range []struct {
		command []string
		code    int32
		reason  string
		message string
	}{
		{[]string{"true"}, 0, "Completed", ""},
		{[]string{"sh", "-c", "exit 255"}, 255, "Error", ""},
		{[]string{"sh", "-c", "kill -SEGV $$"}, 139, "Error", ""},
		{[]string{"no-such-program"}, 127, "", "no-such-program"},
		{[]string{"/etc/passwd"}, 126, "", "permission denied"},
	} {
		t.Run(strings.Join(tc.command, " "), func(t *testing.T) {
			pod := node.Run(harness.Pod{Name: fmt.Sprint("end", i), Command: tc.command})
			st := pod.WaitExited()
			if st.GetExitCode() != tc.code || tc.reason != "" && st.GetReason() != tc.reason {
				t.Errorf("exit %d %s (%s), want %d %s", st.GetExitCode(), st.GetReason(), st.GetMessage(), tc.code, tc.reason)
			}
			if !strings.Contains(st.GetMessage(), tc.message) {
				t.Errorf("message %q says nothing of %q", st.GetMessage(), tc.message)
			}
			pod.Remove()
		})
	}
}

// TestStopEndsTheCommandByItsSignal, and at the end of the grace period without it.
func TestStopEndsTheCommandByItsSignal(t *testing.T) {
	node := harness.StartNode(t)
	polite := node.Run(harness.Pod{Name: "polite", Command: []string{"sh", "-c", "trap 'echo goodbye; exit 3' TERM; echo up; while :; do sleep 0.1; done"}})
	deaf := node.Run(harness.Pod{Name: "deaf", Command: []string{"sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"}})
	polite.WaitLog("up")
	deaf.WaitLog("up")
	stop(t, node, polite.ContainerID, 30)
	if st := polite.Status(); st.GetExitCode() != 3 {
		t.Errorf("the polite one ended with %d %s (%s), want 3", st.GetExitCode(), st.GetReason(), st.GetMessage())
	}
	if !strings.Contains(polite.Log(), "goodbye") {
		t.Errorf("its last words are not in the log: %q", polite.Log())
	}
	begin := time.Now()
	stop(t, node, deaf.ContainerID, 2)
	if st := deaf.Status(); st.GetExitCode() != 137 {
		t.Errorf("the deaf one ended with %d %s, want 137", st.GetExitCode(), st.GetReason())
	}
	if took := time.Since(begin); took < 2*time.Second || took > 10*time.Second {
		t.Errorf("its stop took %s, with 2 s of grace", took)
	}
}
