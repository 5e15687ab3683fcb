// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"syscall"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// TestAHungQEMUIsForcedAtItsDeadline: a QEMU that does not answer the power button does
// not hold up its own stop, nor another pod's start.
func TestAHungQEMUIsForcedAtItsDeadline(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{Name: "hung"})
	pod.WaitReady()
	signalQEMU(t, pod, syscall.SIGSTOP)
	begin := time.Now()
	stopped := make(chan error, 1)
	go func() {
		_, err := node.StopContainer(t.Context(), &runtimeapi.StopContainerRequest{ContainerId: pod.ContainerID, Timeout: 5})
		stopped <- err
	}()
	node.Run(harness.Pod{Name: "other"}).WaitReady()
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	// 5 s of grace, then what libvirt gives a process before SIGKILL.
	if took := time.Since(begin); took > 40*time.Second {
		t.Errorf("the stop took %s", took)
	}
	if st := pod.Status(); st.GetExitCode() != 137 || st.GetReason() != "Killed" {
		t.Errorf("exit %d %s (%s)", st.GetExitCode(), st.GetReason(), st.GetMessage())
	}
}

// TestAStopGoesOnWhenLibvirtIsBack: nobody asks again, and the VM ends all the same.
func TestAStopGoesOnWhenLibvirtIsBack(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{Name: "left"})
	pod.WaitReady()
	harness.KillLibvirtd(t)
	_, err := node.StopContainer(t.Context(), &runtimeapi.StopContainerRequest{ContainerId: pod.ContainerID, Timeout: 1})
	harness.StartLibvirtd(t)
	if err == nil {
		t.Fatal("no error without libvirt")
	}
	if st := pod.WaitExited(); st.GetExitCode() != 137 && st.GetExitCode() != 0 {
		t.Errorf("exit %d %s (%s)", st.GetExitCode(), st.GetReason(), st.GetMessage())
	}
}
