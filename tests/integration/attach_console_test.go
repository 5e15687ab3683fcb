// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/vmlet/vmlet/tests/harness"
)

// TestAttachToTheConsole of a machine that has no command: what is typed there is answered,
// several clients see it, what a client that came and went typed last is not lost, and all
// of it is in the log.
func TestAttachToTheConsole(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{Name: "console"})
	pod.WaitReady()
	watcher := &screen{}
	watching, err := pod.StartAttach(t.Context(), harness.Streams{Stdout: watcher})
	if err != nil {
		t.Fatal(err)
	}
	defer watching.Disconnect()

	keyboard, own := newKeyboard(), &screen{}
	typing, err := pod.StartAttach(t.Context(), harness.Streams{Stdin: keyboard, Stdout: own, TTY: true})
	if err != nil {
		t.Fatal(err)
	}
	keyboard.Type("\n")
	// What is typed comes back on the screen, so the answer is something else than the question.
	node.Eventually(time.Minute, func() error {
		keyboard.Type("echo answer-$((40+2))\n")
		time.Sleep(500 * time.Millisecond)
		return own.has("answer-42")
	})
	typing.Disconnect()

	last, err := pod.StartAttach(t.Context(), harness.Streams{Stdin: strings.NewReader("echo last-$((6*7))\n"), Stdout: &screen{}})
	if err != nil {
		t.Fatal(err)
	}
	defer last.Disconnect()
	node.Eventually(time.Minute, func() error { return watcher.has("last-42") })
	if err := watcher.has("answer-42"); err != nil {
		t.Error(err)
	}
	node.Eventually(10*time.Second, func() error {
		if log := pod.Log(); !strings.Contains(log, "answer-42") || !strings.Contains(log, "last-42") {
			return errNotYet
		}
		return nil
	})

	pod.Exec("sh", "-c", "poweroff >/dev/null 2>&1 &")
	pod.WaitExited()
	if _, err := watching.Wait(); err != nil {
		t.Errorf("a client heard the end as %v", err)
	}
}
