// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// TestVirtiofsdKilled: its end is seen, and repaired or told.
func TestVirtiofsdKilled(t *testing.T) {
	v := makeVolumes(t)
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{
		Name: "virtiofsd", Command: []string{"sh", "-c", "echo up; while :; do sleep 1; done"},
		Container: func(c *runtimeapi.ContainerConfig) { c.Mounts = v.mounts() },
	})
	pod.WaitLog("up")
	pids := harness.Processes(t, "virtiofsd", pod.SandboxID)
	if len(pids) == 0 {
		t.Fatal("no virtiofsd has the sandbox's share")
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
	}
	// Whoever touches the share before it has another virtiofsd waits for the dead one for ever,
	// and keeps the guest from letting go of the device: that is reported, not repaired.
	node.Eventually(90*time.Second, func() error {
		for _, pid := range harness.Processes(t, "virtiofsd", pod.SandboxID) {
			if !slices.Contains(pids, pid) {
				return nil
			}
		}
		return errors.New("there is no other virtiofsd")
	})
	node.Eventually(90*time.Second, func() error {
		st := pod.Status()
		if st.GetState() == runtimeapi.ContainerState_CONTAINER_EXITED {
			if !strings.Contains(st.GetMessage(), "virtiofs") {
				return fmt.Errorf("it ended with %d %s (%s), which says nothing of virtiofs", st.GetExitCode(), st.GetReason(), st.GetMessage())
			}
			return nil
		}
		out, err := pod.TryExec(t.Context(), "timeout", "3", "cat", "/data/from-host")
		if err != nil {
			return err
		}
		return hasText(out, "hello guest")
	})
}
