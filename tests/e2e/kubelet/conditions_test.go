// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kubelet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmlet/vmlet/tests/harness"
)

// TestKubeletSaysWhatTheNodeLacks: without an API server nobody reads the node's Ready condition, but kubelet logs
// what it would say there, and why it leaves pods alone.
func TestKubeletSaysWhatTheNodeLacks(t *testing.T) {
	node := harness.StartNode(t)
	k := harness.StartKubelet(t, node)
	f := &fleet{t: t, node: node, k: k, pods: runSteady(t, k, 1)}

	t.Run("libvirt is gone", func(t *testing.T) {
		harness.KillLibvirtd(t)
		waitKubeletLog(t, k, "Skipping pod synchronization", "container runtime not ready: RuntimeReady=false reason:LibvirtNotReady message:")
		k.Apply("libvirtless", plainPod("libvirtless"))
		if _, err := k.Run("steady-0", "true"); err != nil {
			t.Errorf("exec while libvirt is away: %v", err)
		}
		if pod, err := k.Pod("libvirtless"); err == nil && pod.VM().State.Running != nil {
			t.Errorf("a VM was started without libvirt: %+v", pod.Status)
		}
		harness.StartLibvirtd(t)
		k.WaitReady("libvirtless")
		k.Delete("libvirtless")
		k.WaitGone("libvirtless")
	})
	t.Run("CNI has no configuration", func(t *testing.T) {
		config := filepath.Join(node.CNIDir(), "10-test.conflist")
		text, err := os.ReadFile(config)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(config); err != nil {
			t.Fatal(err)
		}
		k.Apply("netless", plainPod("netless"))
		event := k.WaitEvent("netless", "NetworkNotReady")
		for _, part := range []string{"container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:", node.CNIDir()} {
			if !strings.Contains(event, part) {
				t.Errorf("no %q in the event: %s", part, event)
			}
		}
		if err := os.WriteFile(config, text, 0o600); err != nil {
			t.Fatal(err)
		}
		k.WaitReady("netless")
		k.Delete("netless")
		k.WaitGone("netless")
	})
	f.whole()
	f.verify()
}

func plainPod(name string) string {
	return strings.ReplaceAll(`apiVersion: v1
kind: Pod
metadata: {name: NAME, annotations: {vmlet.io/agent-timeout: 5m}}
spec:
  terminationGracePeriodSeconds: 2
  containers: [{name: vm, image: IMAGE, command: [sleep, "1000"], readinessProbe: {exec: {command: ["true"]}, periodSeconds: 1, timeoutSeconds: 10}}]
`, "NAME", name)
}

// waitKubeletLog waits until a line that is logged from now on has all the texts.
func waitKubeletLog(t *testing.T, k *harness.Kubelet, texts ...string) {
	t.Helper()
	before, err := os.ReadFile(k.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	k.Node.Eventually(30*time.Second, func() error {
		log, err := os.ReadFile(k.LogFile())
		if err != nil {
			return err
		}
	lines:
		for line := range strings.Lines(string(log[len(before):])) {
			for _, text := range texts {
				if !strings.Contains(line, text) {
					continue lines
				}
			}
			return nil
		}
		return fmt.Errorf("kubelet does not log %q:\n%s", texts, k.LogTail(5))
	})
}

// TestTheClockIsSet sets vmlet's clock ahead and back. Kubelet and libvirt keep theirs, which vmlet must not rely on
// either. A pod that runs does not notice; one whose VM ends gets the next attempt, once, though that is of an earlier
// time than the last; and a guest that ignores its end has its grace, no more and no less.
func TestTheClockIsSet(t *testing.T) {
	clock := harness.NewClock(t)
	node := harness.StartNode(t, harness.WithEnv(clock.Env()...))
	k := harness.StartKubelet(t, node)
	applyMachine(k, "deaf", "6", "0")
	f := &fleet{t: t, node: node, k: k, pods: runSteady(t, k, 2)}
	waitMachine(k, "deaf").Exec("sh", "-c", deaf)

	clock.Set(time.Hour)
	node.Eventually(30*time.Second, func() error {
		if ahead := time.Until(k.LastLogged("steady-0")); ahead < 59*time.Minute {
			return fmt.Errorf("the log is %s ahead", ahead)
		}
		return nil
	})
	f.whole()

	clock.Set(-time.Hour)
	f.whole()
	f.verify()
	harness.Virsh(t, "destroy", k.Running("steady-1").DomainName())
	again := k.WaitRestarts("steady-1", 1).VM().ContainerID

	k.Delete("deaf")
	asked := time.Now()
	node.Eventually(time.Minute, func() error {
		return want("the guest was asked", strings.Contains(k.LogOnDisk("deaf"), "guest: ignored"), true)
	})
	clock.Set(-2 * time.Hour)
	node.Kill9()
	node.Start()
	k.WaitGone("deaf")
	if took := time.Since(asked); took < 5*time.Second || took > 30*time.Second {
		t.Errorf("the deaf guest, whose grace is 6 s, was gone after %s", took)
	}

	if vm := k.WaitReady("steady-1").VM(); vm.ContainerID != again || vm.RestartCount != 1 {
		t.Errorf("the pod whose VM ended once has container %s, was %s, and %d restarts", vm.ContainerID, again, vm.RestartCount)
	}
	f.pods = f.pods[:1]
	f.whole()
	f.verify()
}

// TestAFullDisk: VMs that write nothing to their disks go on, one that does is paused, a new one fails with the reason in
// its pod's events; and all of them go on by themselves when there is room again.
func TestAFullDisk(t *testing.T) {
	node := harness.StartNode(t, harness.WithSmallRoot("64M"))
	k := harness.StartKubelet(t, node)
	applyMachine(k, "writer", "2", "0")
	f := &fleet{t: t, node: node, k: k, pods: runSteady(t, k, 1)}
	writer := waitMachine(k, "writer")
	boot := bootID(t, k, "writer")

	// What a guest has not written yet would pause it, too: this one has written all, and cannot write more.
	k.Running("steady-0").Exec("sh", "-c", "sync; echo u >/proc/sysrq-trigger; until grep -q ' / ext4 ro' /proc/mounts; do sleep 0.1; done")
	ballast := filepath.Join(node.LibDir, "node", "ballast")
	fillUp(t, ballast)
	writer.ExecDetached("dd if=/dev/urandom of=/root/written bs=64k count=32 && sync && echo guest: written >/dev/ttyS0")
	k.Apply("late", plainPod("late"))
	t.Log(k.WaitEvent("late", "no space left on device"))
	node.Eventually(time.Minute, func() error {
		return want("the guest that writes", harness.Virsh(t, "domstate", "--reason", writer.DomainName()), "paused (I/O error)")
	})
	so := len(k.Numbers("steady-0", "count"))
	node.Eventually(time.Minute, func() error {
		if now := len(k.Numbers("steady-0", "count")); now < so+10 {
			return fmt.Errorf("%d lines are in the log, there were %d", now, so)
		}
		return nil
	})
	if err := f.unmoved(f.pods[0]); err != nil {
		t.Error(err)
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	k.WaitLog("writer", "guest: written")
	if now := bootID(t, k, "writer"); now != boot {
		t.Errorf("the guest that was paused has boot ID %s, was %s", now, boot)
	}
	k.WaitReady("late")
	f.whole()
	f.verify()
}

// fillUp takes all the room of a file system, to the last byte.
func fillUp(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1 << 20, 4096, 1} {
		for block := make([]byte, size); err == nil; _, err = f.Write(block) {
		}
		err = nil
	}
	if err := f.Close(); err != nil {
		t.Fatal(errors.Join(err, os.Remove(path)))
	}
}
