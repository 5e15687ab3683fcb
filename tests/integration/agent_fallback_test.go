// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// TestGuestWithoutOurAgent has qemu-guest-agent, which can do a little. What it cannot do
// is refused, and the refusal names the agent that could.
func TestGuestWithoutOurAgent(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{Name: "qga", Image: node.PullQGAImage()})
	boot := pod.WaitReady()
	if got := pod.Exec("cat", "/proc/sys/kernel/random/boot_id"); got != boot {
		t.Errorf("exec says boot ID %s, the console %s", got, boot)
	}
	res, err := node.ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: pod.ContainerID, Cmd: []string{"sh", "-c", "echo out; echo err >&2; exit 6"}, Timeout: 30})
	if err != nil || res.GetExitCode() != 6 || string(res.GetStdout()) != "out\n" || string(res.GetStderr()) != "err\n" {
		t.Errorf("exec: %v, %v", res, err)
	}
	_, err = pod.ExecStream(t.Context(), harness.Streams{Stdin: newKeyboard(), Stdout: &bytes.Buffer{}, TTY: true}, "sh")
	if err == nil || !strings.Contains(err.Error(), "vmlet-agent") {
		t.Errorf("exec with a terminal: %v", err)
	}
	stop(t, node, pod.ContainerID, 30)
	if st := pod.Status(); st.GetExitCode() != 0 {
		t.Errorf("stopped with %d %s", st.GetExitCode(), st.GetReason())
	}
}

// TestMountsWithoutOurAgent come by the seed, as they are when the machine is made: what is
// shared is live, what is copied stays as it was.
func TestMountsWithoutOurAgent(t *testing.T) {
	v := makeVolumes(t)
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{
		Name: "qga-mounts", Image: node.PullQGAImage(),
		Sandbox: func(c *runtimeapi.PodSandboxConfig) {
			c.Annotations = map[string]string{"vmlet.io/guest-agent": "qga"}
			c.Linux.Sysctls = map[string]string{"fs.mqueue.msg_max": "123"}
		},
		Container: func(c *runtimeapi.ContainerConfig) { c.Mounts = v.mounts() },
	})
	pod.WaitReady()
	for command, want := range map[string]string{
		"cat /etc/hosts":                             "127.0.0.1\tlocalhost\n10.1.2.3\tfriend",
		"cat /etc/config/key /etc/config/other":      "onesame",
		"cat /data/from-host /srv/by-link/from-host": "hello guesthello guest",
		"cat /srv/readonly/fixed":                    "fixed",
		"cat /proc/sys/fs/mqueue/msg_max":            "123",
		"echo x 2>&- >/etc/config/key || echo no":    "no",
		"touch /srv/readonly/x 2>&- || echo no":      "no",
	} {
		if got := pod.Exec("sh", "-c", command); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
	pod.Exec("sh", "-c", "echo from the guest >/data/from-guest")
	if got, err := os.ReadFile(filepath.Join(v.data, "from-guest")); err != nil || string(got) != "from the guest\n" {
		t.Errorf("what the guest wrote: %q, %v", got, err)
	}
}

// TestCommandWithoutOurAgent cannot be started: that is said within the deadline, and
// nothing runs on.
func TestCommandWithoutOurAgent(t *testing.T) {
	node := harness.StartNode(t, harness.WithConfig("defaults: {memory: 128MiB, agentTimeout: 12s}"))
	pod := node.Run(harness.Pod{Name: "helpless", Image: node.PullQGAImage(), Command: []string{"true"}})
	begin := time.Now()
	st := pod.WaitExited()
	if took := time.Since(begin); took > 25*time.Second {
		t.Errorf("it took %s to say so, with a deadline of 12 s", took)
	}
	if st.GetExitCode() != 128 || st.GetReason() != "StartError" || !strings.Contains(st.GetMessage(), "vmlet-agent") {
		t.Errorf("exit %d %s (%s)", st.GetExitCode(), st.GetReason(), st.GetMessage())
	}
	if got := harness.Virsh(t, "list", "--name"); strings.Contains(got, pod.DomainName()) {
		t.Error("its VM still runs")
	}
	_, err := pod.TryExec(t.Context(), "true")
	if status.Code(err) == codes.OK {
		t.Errorf("exec in it: %v", err)
	}
}
