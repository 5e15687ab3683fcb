// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// TestCommandWithATerminal: its terminal is attached, with the size that the client has.
func TestCommandWithATerminal(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{
		Name: "terminal", Command: []string{"sh"},
		Container: func(c *runtimeapi.ContainerConfig) { c.Tty, c.Stdin = true, true },
	})
	keyboard, screen := newKeyboard(), &screen{}
	session, err := pod.StartAttach(t.Context(), harness.Streams{Stdin: keyboard, Stdout: screen, TTY: true})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Disconnect()
	if err := session.Resize(123, 45); err != nil {
		t.Fatal(err)
	}
	// What is typed comes back on the screen, so the answer is something else than the question.
	node.Eventually(time.Minute, func() error {
		keyboard.Type("stty size\n")
		time.Sleep(200 * time.Millisecond)
		return screen.has("45 123")
	})
	keyboard.Type("tty; exit $((40+2))\n")
	if st := pod.WaitExited(); st.GetExitCode() != 42 {
		t.Errorf("exit code %d, want 42; the screen: %q", st.GetExitCode(), screen)
	}
	if _, err := session.Wait(); err != nil {
		t.Errorf("attached: %v", err)
	}
	if err := screen.has("/dev/pts/"); err != nil {
		t.Error(err)
	}
	if log := pod.Log(); !strings.Contains(log, "/dev/pts/") || strings.Contains(log, "\r\n") {
		t.Errorf("log: %q", log)
	}
}

// TestCommandReadsItsAttachedClient without a terminal: byte for byte, to the end of input.
func TestCommandReadsItsAttachedClient(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{
		Name: "reader", Command: []string{"sh", "-c", "wc -c; echo done >&2"},
		Container: func(c *runtimeapi.ContainerConfig) { c.Stdin, c.StdinOnce = true, true },
	})
	out, errs := &screen{}, &screen{}
	input := strings.Repeat("0123456789abcdef", 64<<10) // 1 MiB
	session, err := pod.StartAttach(t.Context(), harness.Streams{Stdin: strings.NewReader(input), Stdout: out, Stderr: errs})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Disconnect()
	if st := pod.WaitExited(); st.GetExitCode() != 0 {
		t.Errorf("exit %d (%s)", st.GetExitCode(), st.GetMessage())
	}
	if _, err := session.Wait(); err != nil {
		t.Errorf("attached: %v", err)
	}
	if got, want := out.String(), fmt.Sprintln(len(input)); got != want {
		t.Errorf("the command printed %q, want %q", got, want)
	}
	if got := errs.String(); got != "done\n" {
		t.Errorf("on its stderr %q", got)
	}
}
