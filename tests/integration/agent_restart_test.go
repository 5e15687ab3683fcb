// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"crypto/rand"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// TestAgentSurvives what happens to it, to its port and to vmlet, in one guest.
func TestAgentSurvives(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{Name: "survivor"})
	boot := pod.WaitReady()
	works := func(t *testing.T) {
		t.Helper()
		if got := pod.Exec("cat", "/proc/sys/kernel/random/boot_id"); got != boot {
			t.Errorf("boot ID %s, want %s", got, boot)
		}
	}
	t.Run("its memory", func(t *testing.T) { testAgentsMemory(t, pod) })
	t.Run("kill -9 of vmlet in the middle of calls", func(t *testing.T) {
		session, err := pod.StartExec(t.Context(), harness.Streams{Stdout: &screen{}}, "sh", "-c", "while :; do echo 0123456789; done")
		if err != nil {
			t.Fatal(err)
		}
		defer session.Disconnect()
		time.Sleep(300 * time.Millisecond)
		node.Kill9()
		node.Start()
		works(t)
		nobodySleeps(t, node, pod, "sh -c while")
	})
	t.Run("its own death", func(t *testing.T) {
		before := pod.Exec("pidof", "vmlet-agent")
		pod.ExecDetached("kill -9 $(pidof vmlet-agent)")
		node.Eventually(30*time.Second, func() error {
			now, err := pod.TryExec(t.Context(), "pidof", "vmlet-agent")
			if err == nil && now == before {
				err = errNotYet
			}
			return err
		})
		works(t)
	})
	t.Run("a stranger's bytes from the host", func(t *testing.T) {
		node.Kill9()
		// QEMU takes one client at a time: vmlet has to be away.
		conn, err := net.Dial("unix", agentSocket(node, pod))
		if err != nil {
			t.Fatal(err)
		}
		garbage := make([]byte, 300<<10)
		_, _ = rand.Read(garbage) // never fails
		if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Write(garbage); err != nil {
			t.Logf("the guest took %d bytes: %v", n, err)
		}
		_ = conn.Close() //nolint:errcheck // nobody answers
		node.Start()
		works(t)
	})
	t.Run("a hostile guest", func(t *testing.T) {
		bystander := node.Run(harness.Pod{Name: "bystander"})
		bystander.WaitReady()
		pod.ExecDetached("kill -STOP $(pidof vmlet-agent); kill -9 $(pidof vmlet-agent); timeout 5 sh -c 'while :; do dd if=/dev/urandom of=/dev/virtio-ports/org.vmlet.agent.0 bs=64k count=64; done'")
		deadline := time.Now().Add(6 * time.Second)
		for time.Now().Before(deadline) {
			if got := bystander.Exec("echo", "fine"); got != "fine" {
				t.Errorf("the bystander says %q", got)
			}
			time.Sleep(200 * time.Millisecond)
		}
		node.Eventually(time.Minute, func() error {
			_, err := pod.TryExec(t.Context(), "true")
			return err
		})
		works(t)
	})
	if st := pod.Status(); st.GetState() != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("the container is %s", st.GetState())
	}
}

// testAgentsMemory: at most 10 MiB. That it is not woken while it has nothing to do is a test of pkg/guest/vmagent.
func testAgentsMemory(t *testing.T, pod *harness.Running) {
	out := pod.Exec("sh", "-c", "awk '/^VmRSS/ { print $2 }' /proc/$(pidof vmlet-agent)/status")
	var rss int
	if _, err := fmt.Sscan(out, &rss); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	t.Logf("%d KiB", rss)
	if rss > 10<<10 {
		t.Errorf("the agent takes %d KiB of memory", rss)
	}
}

// agentSocket is where QEMU listens for the agent's host.
func agentSocket(node *harness.Node, pod *harness.Running) string {
	return filepath.Join(node.RunDir, "state", "agent", pod.SandboxID+".sock")
}

// TestCommandEndsWithItsAgent: nobody is left to wait for it, so it is killed, and the
// agent that comes up next has its exit.
func TestCommandEndsWithItsAgent(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{Name: "orphan", Command: []string{"sh", "-c", "echo up; sleep 9991 & sleep 9992"}})
	pod.WaitLog("up")
	pod.ExecDetached("kill -9 $(pidof vmlet-agent)")
	if st := pod.WaitExited(); st.GetExitCode() != 137 || st.GetReason() != "Error" {
		t.Errorf("exit %d %s (%s), want 137 Error", st.GetExitCode(), st.GetReason(), st.GetMessage())
	}
	if got := pod.Log(); got != "up\n" {
		t.Errorf("log %q", got)
	}
}

// TestHostileOutput: root in the guest writes what it likes into the port of the command's
// output. The log stays a log, and the next lines of the command are in it.
func TestHostileOutput(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{
		Name: "babble", Command: []string{"sh", "-c", "mkfifo /tmp/go; echo before; read -r _ </tmp/go; echo; echo after; exit 2"},
		Container: func(c *runtimeapi.ContainerConfig) {
			c.Linux.SecurityContext = &runtimeapi.LinuxContainerSecurityContext{Privileged: true}
		},
	})
	pod.WaitLog("before")
	// The port is the agent's alone; through its own descriptor anybody who is root gets at it.
	pod.Exec("sh", "-c", `for fd in /proc/$(pidof vmlet-agent | cut -d' ' -f1)/fd/*; do
case $(readlink $fd) in */vport*) ;; *) continue ;; esac
[ "$(readlink $fd)" = "$(readlink -f /dev/virtio-ports/org.vmlet.output.0)" ] && head -c 200000 /dev/urandom >$fd; done; true`)
	pod.Exec("sh", "-c", "echo >/tmp/go")
	if st := pod.WaitExited(); st.GetExitCode() != 2 {
		t.Errorf("exit %d %s (%s), want 2", st.GetExitCode(), st.GetReason(), st.GetMessage())
	}
	if got := pod.Log(); !strings.HasPrefix(got, "before\n") || !strings.HasSuffix(got, "after\n") {
		t.Errorf("the log begins %.60q and ends %q", got, got[max(0, len(got)-60):])
	}
	for i, line := range pod.LogLines() {
		if line.Stream != "stdout" && line.Stream != "stderr" {
			t.Fatalf("line %d of the log is of the stream %q", i, line.Stream)
		}
	}
}
