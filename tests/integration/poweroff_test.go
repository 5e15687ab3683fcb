// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
	"github.com/vmlet/vmlet/tests/harness"
)

const (
	askGuest  = vmletv1.PowerOffMode_POWER_OFF_MODE_UNSPECIFIED
	pullPlug  = vmletv1.PowerOffMode_POWER_OFF_MODE_FORCE
	askThen   = vmletv1.PowerOffMode_POWER_OFF_MODE_GUEST_THEN_FORCE
	heldOff   = vmletv1.PowerOffPolicy_POWER_OFF_POLICY_HELD
	endsByOff = vmletv1.PowerOffPolicy_POWER_OFF_POLICY_EXITS
)

// off powers the VM off; within is how long its guest may take.
func (s snapshotted) off(mode vmletv1.PowerOffMode, within time.Duration) (*vmletv1.PowerOffResponse, error) {
	return s.node.VMs.PowerOff(s.ctx(), &vmletv1.PowerOffRequest{Vm: s.SandboxID, Mode: mode, WaitMs: within.Milliseconds()})
}

func (s snapshotted) mustOff(mode vmletv1.PowerOffMode, forced bool) {
	s.t.Helper()
	did, err := s.off(mode, time.Minute)
	if err != nil || did.GetPolicy() != heldOff || did.GetForced() != forced {
		s.t.Fatalf("%v, %v", did, err)
	}
}

func (s snapshotted) on(paused bool) {
	s.t.Helper()
	if _, err := s.node.VMs.PowerOn(s.ctx(), &vmletv1.PowerOnRequest{Vm: s.SandboxID, Paused: paused}); err != nil {
		s.t.Fatal(err)
	}
}

// isOff proves that no VM runs while its container does.
func (s snapshotted) isOff() {
	s.t.Helper()
	if state := harness.Virsh(s.t, "domstate", s.DomainName()); state != "shut off" {
		s.t.Errorf("the domain is %s", state)
	}
	if st := s.Status(); st.GetState() != runtimeapi.ContainerState_CONTAINER_RUNNING {
		s.t.Errorf("the container is %s: %s", st.GetState(), st.GetMessage())
	}
	if info := s.VerboseStatus()["info"]; !strings.Contains(info, `"poweredOff":true`) {
		s.t.Errorf("its info does not say that it is off: %s", info)
	}
}

// TestPowerOffAndOn: the VM is off and its container is held, over restarts of vmlet and libvirtd; what is done to it
// meanwhile is in its next boot. Then the ways in which guests go, and what the CRI's own calls make of it.
func TestPowerOffAndOn(t *testing.T) {
	node := harness.StartNode(t)
	s := newSnapshotted(t, node, "power")
	exits := snapshotted{node.Run(harness.Pod{Name: "exits", Annotations: map[string]string{"vmlet.io/power-off": "exits"}}), t, node}
	started, boot := s.Status().GetStartedAt(), s.BootID()
	s.write("kept")
	s.mustOff(askGuest, false)
	s.isOff()
	_, err := node.ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: s.ContainerID, Cmd: []string{"true"}, Timeout: 5})
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "powered off") {
		t.Errorf("exec: %v", err)
	}
	node.Eventually(time.Minute, func() error {
		stats, err := node.ContainerStats(t.Context(), &runtimeapi.ContainerStatsRequest{ContainerId: s.ContainerID})
		if err != nil {
			return err
		}
		if used := stats.GetStats().GetMemory().GetWorkingSetBytes().GetValue(); used != 0 {
			return fmt.Errorf("it uses %d bytes of memory", used)
		}
		return nil
	})
	node.Kill9()
	node.Start()
	harness.RestartLibvirtd(t)
	node.Eventually(time.Minute, func() error { // libvirt is back
		_, err := node.VMs.AttachDisk(s.ctx(), &vmletv1.AttachDiskRequest{
			Vm: s.SandboxID, Name: "data", Source: &vmletv1.AttachDiskRequest_SizeBytes{SizeBytes: 64 << 20},
		})
		return err
	})
	s.mustOff(askGuest, false)
	s.isOff()
	if snap := s.mustTake("off", false); snap.GetConsistency() != vmletv1.SnapshotConsistency_SNAPSHOT_CONSISTENCY_OFF {
		t.Errorf("it is told as %v", snap)
	}
	s.mustRestore("off")
	s.on(false)
	if now := s.BootID(); now == boot {
		t.Error("the guest did not boot")
	}
	s.WaitBoots(2) // by its log, which has both
	s.holds("kept")
	if sizes := s.Exec("sh", "-c", "cat /sys/block/*/size"); !strings.Contains(sizes, strconv.Itoa(64<<20/512)) {
		t.Errorf("the guest's disks have %q sectors", sizes)
	}
	if st := s.Status(); st.GetStartedAt() != started {
		t.Errorf("the container was started at %d, was at %d", st.GetStartedAt(), started)
	}
	s.mustOff(pullPlug, true)
	s.on(true)
	if state := harness.Virsh(t, "domstate", s.DomainName()); state != "paused" {
		t.Errorf("powered on paused, the domain is %s", state)
	}

	t.Run("exits", func(t *testing.T) {
		exits.t = t
		exits.WaitReady()
		if did, err := exits.off(askGuest, time.Minute); err != nil || did.GetPolicy() != endsByOff || did.GetForced() {
			t.Errorf("%v, %v", did, err)
		}
		if st := exits.Status(); st.GetReason() != "PoweredOff" || st.GetExitCode() != 0 {
			t.Errorf("it ended with %d %s", st.GetExitCode(), st.GetReason())
		}
		_, err := node.VMs.PowerOn(exits.ctx(), &vmletv1.PowerOnRequest{Vm: exits.SandboxID})
		if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "vmlet.io/power-off: held") {
			t.Errorf("power on: %v", err)
		}
	})
	if _, err := node.VMs.Resume(s.ctx(), &vmletv1.ResumeRequest{Vm: s.SandboxID}); err != nil {
		t.Fatal(err)
	}
	// A guest that ignores the button is left as it is, or its plug is pulled; its agent is asked after two seconds only.
	s.Exec("rm", "/etc/acpi/PWRF/00000080")
	boot = s.BootID()
	if _, err := s.off(askGuest, time.Second); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a guest that is deaf: %v", err)
	}
	if now := s.BootID(); now != boot {
		t.Errorf("boot %s, was %s", now, boot)
	}
	if did, err := s.off(askThen, time.Second); err != nil || !did.GetForced() {
		t.Errorf("%v, %v", did, err)
	}
	s.isOff()
	stop(t, node, s.ContainerID, 600) // there is nobody to wait for
	if st := s.Status(); st.GetReason() != "PoweredOff" {
		t.Errorf("stopped, it ended with %d %s", st.GetExitCode(), st.GetReason())
	}
}

// TestKilledAtEveryStepOfAPowerOff: vmlet is killed at each failpoint that a poweroff and a power on pass. Its next life
// finishes what was begun; either way the call can be repeated.
func TestKilledAtEveryStepOfAPowerOff(t *testing.T) {
	k := newKiller(t)
	node := harness.StartNode(t, k.watched())
	k.node = node
	s := newSnapshotted(t, node, "power")
	s.write("kept")
	offs := k.passes(3, func() { s.mustOff(pullPlug, true) })
	ons := k.passes(3, func() { s.on(false) })
	killed := func(marks []string, i int, call func() error) {
		t.Helper()
		k.dieAt(marks, i, call)
		if st := s.Status(); st.GetState() != runtimeapi.ContainerState_CONTAINER_RUNNING {
			t.Fatalf("killed at %s: the container is %s: %s", marks[i], st.GetState(), st.GetMessage())
		}
	}
	for i := range offs {
		killed(offs, i, func() error { _, err := s.off(pullPlug, time.Minute); return err })
		s.mustOff(pullPlug, true)
		s.isOff()
		s.on(false)
	}
	s.mustOff(pullPlug, true)
	for i := range ons {
		killed(ons, i, func() error {
			_, err := node.VMs.PowerOn(s.ctx(), &vmletv1.PowerOnRequest{Vm: s.SandboxID})
			return err
		})
		s.on(false)
		s.mustOff(pullPlug, true)
		s.isOff()
	}
	s.on(false)
	s.BootID() // it is up
	s.holds("kept")
}

// TestAGuestThatStoodStill: frozen file systems are whole in a snapshot, and thaw when vmlet is killed in that moment; and a
// guest whose CPUs stood still has the right time. By either agent.
func TestAGuestThatStoodStill(t *testing.T) {
	kill := filepath.Join(t.TempDir(), "kill")
	node := harness.StartNode(t, harness.WithEnv("VMLET_FAILPOINT_KILL="+kill))
	qga := snapshotted{node.Run(harness.Pod{
		Name: "qga", Image: node.PullQGAImage(), Annotations: map[string]string{"vmlet.io/guest-agent": "qga"},
	}), t, node}
	s := newSnapshotted(t, node, "still")
	quiesce := func(s snapshotted, name string) error {
		s.t.Helper()
		resp, err := node.VMs.CreateSnapshot(s.ctx(), &vmletv1.CreateSnapshotRequest{Vm: s.SandboxID, Name: name, Quiesce: true})
		if got := resp.GetSnapshot().GetConsistency(); err == nil && got != vmletv1.SnapshotConsistency_SNAPSHOT_CONSISTENCY_FILE_SYSTEM {
			s.t.Errorf("it is told as %v", resp.GetSnapshot())
		}
		return err
	}
	// writes proves that the guest's disk takes what is written.
	writes := func(s snapshotted) {
		s.t.Helper()
		s.Exec("sh", "-c", "echo x >/thawed && sync && rm /thawed")
	}
	// rightTime waits until the guest's clock is no more than two seconds off.
	rightTime := func(s snapshotted) {
		s.t.Helper()
		node.Eventually(time.Minute, func() error {
			before := time.Now().Unix()
			is, err := strconv.ParseInt(s.Exec("date", "+%s"), 10, 64)
			if after := time.Now().Unix(); err != nil || is < before-2 || is > after+2 {
				return fmt.Errorf("the guest says %d, the host %d to %d, %w", is, before, after, err)
			}
			return nil
		})
	}
	stands := func(s snapshotted) {
		s.t.Helper()
		if _, err := node.VMs.Pause(s.ctx(), &vmletv1.PauseRequest{Vm: s.SandboxID}); err != nil {
			s.t.Fatal(err)
		}
		time.Sleep(5 * time.Second) // it stands still
		if err := quiesce(s, "paused"); status.Code(err) != codes.FailedPrecondition {
			s.t.Errorf("a paused guest was quiesced: %v", err)
		}
		if _, err := node.VMs.Resume(s.ctx(), &vmletv1.ResumeRequest{Vm: s.SandboxID}); err != nil {
			s.t.Fatal(err)
		}
		rightTime(s)
	}

	memory := time.Now()
	s.mustTake("memory", true)
	s.Exec("sh", "-c", "echo unsynced >/data")
	if err := quiesce(s, "whole"); err != nil {
		t.Fatal(err)
	}
	writes(s)
	// It has passed there once.
	if err := os.WriteFile(kill, []byte("revert/thaw 2"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := quiesce(s, "killed"); err == nil {
		t.Fatal("it was not killed")
	}
	<-node.Exited()
	if err := os.Remove(kill); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	node.Stop() // forgets the dead process
	node.Start()
	writes(s)
	node.Eventually(time.Minute, func() error {
		if names := s.names(); strings.Join(names, " ") != "memory whole" {
			return fmt.Errorf("snapshots %v", names)
		}
		return nil
	})
	stands(s)
	s.mustRestore("memory")
	rightTime(s)
	t.Logf("its memory was of %s ago", time.Since(memory))
	s.mustRestore("whole")
	s.holds("unsynced")

	qga.WaitReady()
	qga.Exec("sh", "-c", "echo unsynced >/data")
	if err := quiesce(qga, "whole"); err != nil {
		t.Fatal(err)
	}
	writes(qga)
	stands(qga)
	qga.mustRestore("whole")
	qga.holds("unsynced")
}
