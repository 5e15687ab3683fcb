// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
	"github.com/vmlet/vmlet/tests/harness"
)

func reboot(ctx context.Context, node *harness.Node, vm string, mode vmletv1.RebootMode) (*vmletv1.RebootResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return node.VMs.Reboot(ctx, &vmletv1.RebootRequest{Vm: vm, Mode: mode, WaitMs: time.Minute.Milliseconds()})
}

// TestRebootByEachWay: the guest boots anew, with its disk and its address; the container is the same, and its log has
// both boots.
func TestRebootByEachWay(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{Name: "reboots"})
	pod.WaitReady()
	boot, started := pod.BootID(), pod.Status().GetStartedAt()
	pod.Exec("sh", "-c", "echo kept >/kept && sync")
	for i, mode := range []vmletv1.RebootMode{
		vmletv1.RebootMode_REBOOT_MODE_UNSPECIFIED, vmletv1.RebootMode_REBOOT_MODE_AGENT,
		vmletv1.RebootMode_REBOOT_MODE_ACPI, vmletv1.RebootMode_REBOOT_MODE_RESET,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			qemu := pod.QEMU()
			got, err := reboot(t.Context(), node, "test/reboots", mode)
			if err != nil {
				t.Fatal(err)
			}
			way := mode
			if way == vmletv1.RebootMode_REBOOT_MODE_UNSPECIFIED {
				way = vmletv1.RebootMode_REBOOT_MODE_AGENT
			}
			if got.GetMode() != way || got.GetBootIdBefore() != boot || got.GetBootId() == boot {
				t.Errorf("got %v, the boot was %s", got, boot)
			}
			if boots := pod.WaitBoots(i + 2); boots[i+1] != got.GetBootId() {
				t.Errorf("the console tells of the boots %v, the answer of %s", boots, got.GetBootId())
			}
			if boot = pod.BootID(); boot != got.GetBootId() {
				t.Errorf("the guest's page says %s", boot)
			}
			if kept := pod.Exec("cat", "/kept"); kept != "kept" {
				t.Errorf("the disk has %q", kept)
			}
			st := pod.Status()
			if st.GetState() != runtimeapi.ContainerState_CONTAINER_RUNNING || st.GetStartedAt() != started {
				t.Errorf("the container is %s, started at %d, was at %d", st.GetState(), st.GetStartedAt(), started)
			}
			if another := pod.QEMU() != qemu; another != (mode == vmletv1.RebootMode_REBOOT_MODE_ACPI) {
				t.Errorf("another QEMU: %v", another)
			}
		})
	}
	t.Run("by the guest itself", func(t *testing.T) {
		pod.ExecDetached("reboot")
		boots := pod.WaitBoots(6)
		if boots[5] == boot {
			t.Errorf("the guest is in boot %s as before", boot)
		}
		if now := pod.BootID(); now != boots[5] {
			t.Errorf("the guest's page says %s, the console %s", now, boots[5])
		}
		if st := pod.Status(); st.GetState() != runtimeapi.ContainerState_CONTAINER_RUNNING || st.GetStartedAt() != started {
			t.Errorf("the container is %s, started at %d, was at %d", st.GetState(), st.GetStartedAt(), started)
		}
	})
	stop(t, node, pod.ContainerID, 30)
	if st := pod.Status(); st.GetExitCode() != 0 {
		t.Errorf("the stop after it ended with %d %s", st.GetExitCode(), st.GetReason())
	}
}

// TestRebootOfACommand: what the reboot does to it is no exit, and the next boot starts it, also when it had run for longer
// than an agent is waited for.
func TestRebootOfACommand(t *testing.T) {
	node := harness.StartNode(t, harness.WithConfig("defaults: {agentTimeout: 20s}"))
	pod := node.Run(harness.Pod{Name: "command", Command: []string{"sh", "-c", "echo boot $(cat /proc/sys/kernel/random/boot_id); trap 'exit 4' TERM; while :; do sleep 0.1; done"}})
	pod.WaitLog("boot ")
	pod.Exec("sleep", "20")
	started := func(times int) {
		node.Eventually(2*time.Minute, func() error {
			if lines := strings.Count(pod.Log(), "boot "); lines != times {
				return fmt.Errorf("the command has started %d times, not %d", lines, times)
			}
			return nil
		})
	}
	for i, mode := range []vmletv1.RebootMode{vmletv1.RebootMode_REBOOT_MODE_AGENT, vmletv1.RebootMode_REBOOT_MODE_ACPI} {
		got, err := reboot(t.Context(), node, "test/command", mode)
		if err != nil {
			t.Fatal(err)
		}
		started(i + 2)
		if log := pod.Log(); !strings.HasSuffix(strings.TrimSpace(log), got.GetBootId()) {
			t.Errorf("the boot is %s; the log: %s", got.GetBootId(), log)
		}
	}
	pod.ExecDetached("reboot") // the guest's own
	started(4)
	boots := slices.DeleteFunc(strings.Split(pod.Log(), "\n"), func(line string) bool { return !strings.HasPrefix(line, "boot ") })
	slices.Sort(boots)
	if len(slices.Compact(boots)) != 4 {
		t.Errorf("the command was started twice in one boot: %s", pod.Log())
	}
	if st := pod.Status(); st.GetState() != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("the container is %s: %s", st.GetState(), st.GetMessage())
	}
	stop(t, node, pod.ContainerID, 30)
	if st := pod.Status(); st.GetExitCode() != 4 {
		t.Errorf("the stop ended with %d %s", st.GetExitCode(), st.GetReason())
	}
}

// TestRebootWithoutOurAgent: libvirt and the power button are enough.
func TestRebootWithoutOurAgent(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{Name: "qga", Image: node.PullQGAImage(), Annotations: map[string]string{"vmlet.io/guest-agent": "qga"}})
	pod.WaitReady()
	for i, mode := range []vmletv1.RebootMode{vmletv1.RebootMode_REBOOT_MODE_ACPI, vmletv1.RebootMode_REBOOT_MODE_AGENT} {
		got, err := reboot(t.Context(), node, pod.SandboxID, mode)
		if err != nil {
			t.Fatal(err)
		}
		if got.GetMode() != mode || got.GetBootId() != "" {
			t.Errorf("got %v", got)
		}
		if boots := pod.WaitBoots(i + 2); boots[i] == boots[i+1] {
			t.Errorf("boots %v", boots)
		}
	}
}

// TestAnIgnoredRebootIsDisarmed: what the guest did not do in time it does no more, and its next poweroff is an end.
func TestAnIgnoredRebootIsDisarmed(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{Name: "deaf"})
	boot := pod.WaitReady()
	pod.Exec("rm", "/etc/acpi/PWRF/00000080")
	_, err := node.VMs.Reboot(t.Context(), &vmletv1.RebootRequest{Vm: pod.ContainerID, Mode: vmletv1.RebootMode_REBOOT_MODE_ACPI, WaitMs: 3000})
	if status.Code(err) != codes.DeadlineExceeded || !strings.Contains(status.Convert(err).Message(), "not seen to boot anew") {
		t.Errorf("got %v", err)
	}
	if now := pod.BootID(); now != boot {
		t.Errorf("boot %s, was %s", now, boot)
	}
	pod.ExecDetached("poweroff")
	if st := pod.WaitExited(); st.GetExitCode() != 0 || st.GetReason() != "Completed" {
		t.Errorf("the poweroff ended with %d %s (%s)", st.GetExitCode(), st.GetReason(), st.GetMessage())
	}
	if _, err := reboot(t.Context(), node, "test/deaf", 0); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a reboot of what has ended: %v", err)
	}
}

// TestPausedVM: nothing in it goes on, nothing in it is lost, also over a restart of vmlet; and a stop is graceful.
func TestPausedVM(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{Name: "paused"})
	boot := pod.WaitReady()
	pod.Exec("sh", "-c", "(while :; do date +%s >>/ticks; sleep 0.2; done) >/dev/null 2>&1 </dev/null &")
	pause := func() {
		if _, err := node.VMs.Pause(t.Context(), &vmletv1.PauseRequest{Vm: "test/paused"}); err != nil {
			t.Fatal(err)
		}
	}
	pause()
	if state := harness.Virsh(t, "domstate", "--reason", pod.DomainName()); state != "paused (user)" {
		t.Errorf("the domain is %q", state)
	}
	if st := pod.Status(); st.GetState() != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("the container is %s", st.GetState())
	}
	if info := pod.VerboseStatus()["info"]; !strings.Contains(info, `"paused":true`) {
		t.Errorf("the container's info does not say that it is paused: %s", info)
	}
	if page, err := pod.HTTP("/boot-id"); err == nil {
		t.Errorf("the guest answers: %s", page)
	}
	_, err := node.ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: pod.ContainerID, Cmd: []string{"true"}, Timeout: 5})
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("exec: %v", err)
	}
	node.Kill9()
	node.Start()
	pause() // it is paused
	if _, err := node.VMs.Resume(t.Context(), &vmletv1.ResumeRequest{Vm: pod.SandboxID}); err != nil {
		t.Fatal(err)
	}
	if now := pod.BootID(); now != boot {
		t.Errorf("boot %s, was %s", now, boot)
	}
	so := pod.Exec("sh", "-c", "wc -l </ticks")
	node.Eventually(time.Minute, func() error {
		if now := pod.Exec("sh", "-c", "wc -l </ticks"); now == so {
			return fmt.Errorf("still %s ticks", now)
		}
		return nil
	})
	pause()
	stop(t, node, pod.ContainerID, 30)
	if st := pod.Status(); st.GetExitCode() != 0 {
		t.Errorf("the stop of a paused VM ended with %d %s", st.GetExitCode(), st.GetReason())
	}
}

// waitRebooted waits until no reboot is under way, and the guest is up.
func waitRebooted(node *harness.Node, pod *harness.Running) {
	node.Eventually(2*time.Minute, func() error {
		if info := pod.VerboseStatus()["info"]; strings.Contains(info, `"reboot":`) {
			return fmt.Errorf("it still reboots: %s", info)
		}
		return nil
	})
	pod.Exec("true")
}

// TestKilledAtEveryStepOfAReboot: vmlet is killed at each failpoint that a reboot passes. Its next life finishes what was
// begun, or leaves the guest as it was; either way the call can be repeated.
func TestKilledAtEveryStepOfAReboot(t *testing.T) {
	k := newKiller(t)
	node := harness.StartNode(t, k.watched())
	k.node = node
	pod := node.Run(harness.Pod{Name: "reboots"})
	pod.WaitReady()
	call := func() (*vmletv1.RebootResponse, error) {
		return reboot(t.Context(), node, "test/reboots", vmletv1.RebootMode_REBOOT_MODE_ACPI)
	}
	marks := k.passes(8, func() {
		if _, err := call(); err != nil {
			t.Fatal(err)
		}
	})
	for i, mark := range marks {
		// The call again, after the kill before this one, unless it is the first.
		k.dieAt(marks, i, func() error { _, err := call(); return err })
		waitRebooted(node, pod)
		if st := pod.Status(); st.GetState() != runtimeapi.ContainerState_CONTAINER_RUNNING {
			t.Fatalf("killed at %s: the container is %s: %s", mark, st.GetState(), st.GetMessage())
		}
	}
	boot := pod.BootID()
	got, err := call()
	if err != nil {
		t.Fatal(err)
	}
	if now := pod.BootID(); now != got.GetBootId() || now == boot {
		t.Errorf("the guest is in boot %s, was in %s, the answer %v", now, boot, got)
	}
}
