// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kubelet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// live is a subtest of TestPodsLive, with pods of names of its own.
type live struct {
	name string
	run  func(*testing.T, *harness.Kubelet)
}

var endScenarios = []live{
	{"how commands end, under each restart policy", commandsThatEnd},
	{"how machines end, under each restart policy", machinesThatEnd},
}

// TestPodsLive has one pod restart all the time, and all other scenarios one after another beside it.
func TestPodsLive(t *testing.T) {
	// Guests boot beside others.
	node := harness.StartNode(t, harness.WithConfig("defaults: {memory: 128MiB, agentTimeout: 5m}"))
	k := harness.StartKubelet(t, node, harness.WithKubeletConfig("crashLoopBackOff: {maxContainerRestartPeriod: 1s}"))
	files := openFiles(t, node)
	var begun *harness.Running
	t.Run("restarts begin", func(t *testing.T) { begun = beginRestarting(k.In(t)) })
	for _, s := range slices.Concat(endScenarios, probeScenarios, initScenarios) {
		t.Run(s.name, func(t *testing.T) { s.run(t, k.In(t)) })
	}
	t.Run("30 restarts leave nothing and lose nothing of the disk", func(t *testing.T) { thirtyRestarts(t, k.In(t), begun) })
	k.RemoveAll()
	if now := openFiles(t, node); now > files+10 {
		t.Errorf("vmlet has %d files open, had %d before it ran a pod", now, files)
	}
}

// beginRestarting runs a machine that counts its boots on its disk, and powers off at once.
func beginRestarting(k *harness.Kubelet) *harness.Running {
	k.Apply("restarts", `apiVersion: v1
kind: Pod
metadata:
  name: restarts
  annotations:
    vmlet.io/user-data: |
      #cloud-boothook
      #!/bin/sh
      echo >>/var/lib/boots
      echo "boot $(wc -l </var/lib/boots)."
      poweroff
spec:
  containers:
  - {name: vm, image: IMAGE}
`)
	k.WaitRunning("restarts")
	return k.Running("restarts")
}

func thirtyRestarts(t *testing.T, k *harness.Kubelet, begun *harness.Running) {
	k.WaitPod("restarts", func(p *harness.KubePod) error {
		w := p.VM().State.Waiting
		if w == nil || w.Reason != "CrashLoopBackOff" || !strings.Contains(w.Message, "back-off 1s restarting failed container=vm") {
			return errors.New("does not wait")
		}
		if l := p.VM().LastState.Terminated; l == nil || l.ExitCode != 0 || l.Reason != "Completed" {
			return errors.New("has not ended by itself")
		}
		return nil
	})
	k.WaitEvent("restarts", "BackOff: Back-off restarting failed container vm in pod restarts")

	defer k.Delete("restarts")
	k.Node.Eventually(10*time.Minute, func() error { // thirty boots
		pod, err := k.Pod("restarts")
		switch {
		case err != nil:
			return err
		case pod.VM().RestartCount < 30:
			return fmt.Errorf("was restarted %d times", pod.VM().RestartCount)
		case pod.Status.PodIP != begun.IP:
			return fmt.Errorf("its address is %s, was %s", pod.Status.PodIP, begun.IP)
		}
		return nil
	})
	checkBoots(t, k)
	files := k.Node.SandboxFiles(begun.SandboxID)
	list, err := k.Node.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{PodSandboxId: begun.SandboxID}})
	if err != nil {
		t.Fatal(err)
	}
	var known []string
	for _, c := range list.GetContainers() {
		known = append(known, c.GetId())
	}
	// kubelet removes dead containers once a minute.
	if len(known) == 0 || len(known) > 25 {
		t.Errorf("%d containers of the sandbox are on record", len(known))
	}
	for _, name := range files {
		if id := regexp.MustCompile(`[0-9a-f]{32,}`).FindString(name); id != "" && !slices.Contains(known, id) {
			t.Errorf("%s is of a container that was removed", name)
		}
	}
}

// checkBoots looks at what each boot whose log is still there found on the disk.
func checkBoots(t *testing.T, k *harness.Kubelet) {
	t.Helper()
	checked := 0
	for _, file := range k.PodLogs("restarts", "vm") {
		attempt, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(file), ".log"))
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		counted := regexp.MustCompile(`boot (\d+)\.`).FindStringSubmatch(string(text))
		if counted == nil {
			continue // it boots
		}
		if counted[1] != strconv.Itoa(attempt+1) {
			t.Errorf("after %d restarts the disk counts %s boots", attempt, counted[1])
		}
		checked = max(checked, attempt)
	}
	if checked < 29 {
		t.Errorf("the last boot that told of its disk is restart %d", checked)
	}
}

func openFiles(t *testing.T, node *harness.Node) int {
	t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", node.PID()))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// podOf is a pod of one container; what is indented by four is that container's.
const podOf = `apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  terminationGracePeriodSeconds: 5
  restartPolicy: POLICY
  containers:
  - name: vm
    image: IMAGE
`

func applyPod(k *harness.Kubelet, name, policy, container string) {
	k.Apply(name, strings.NewReplacer("NAME", name, "POLICY", policy).Replace(podOf)+container)
}

// podEnd is how kubelet shows a pod whose one container is not started again.
type podEnd struct {
	phase  string
	code   int
	reason string
	// message is in what kubelet shows, "" for nothing at all.
	message  string
	restarts int
}

func (want podEnd) check(t *testing.T, k *harness.Kubelet, name string) *harness.KubePod {
	t.Helper()
	pod := k.WaitPhase(name, want.phase)
	k.Delete(name)
	vm := pod.VM()
	got := vm.State.Terminated
	if got == nil || got.ExitCode != want.code || got.Reason != want.reason || vm.RestartCount != want.restarts {
		t.Errorf("%s: after %d restarts %+v, want %+v", name, vm.RestartCount, got, want)
		return pod
	}
	if !strings.Contains(got.Message, want.message) || want.message == "" && got.Message != "" {
		t.Errorf("%s: message %q, want %q", name, got.Message, want.message)
	}
	if got.StartedAt.IsZero() || got.FinishedAt.Before(got.StartedAt) || time.Since(got.FinishedAt) > 5*time.Minute {
		t.Errorf("%s: ran from %s to %s", name, got.StartedAt, got.FinishedAt)
	}
	return pod
}

func commandsThatEnd(t *testing.T, k *harness.Kubelet) {
	// A few at a time: their boots share the processors.
	applyPod(k, "exit-0", "Never", `    command: ["true"]`)
	applyPod(k, "exit-1", "Never", `    command: [sh, -c, "echo not the message; echo out of coffee >/dev/termination-log; exit 1"]`)
	k.ApplyFile("job")
	podEnd{"Succeeded", 0, "Completed", "", 0}.check(t, k, "exit-0")
	podEnd{"Failed", 1, "Error", "out of coffee\n", 0}.check(t, k, "exit-1")

	applyPod(k, "killed", "Never", `    command: [sh, -c, "seq 100; echo last words; kill -KILL $$$$"]
    terminationMessagePolicy: FallbackToLogsOnError`)
	applyPod(k, "out-of-memory", "Never", `    command: [tail, /dev/zero]`)
	applyPod(k, "always", "Always", `    command: [sh, -c, "test -e /root/again && exec sleep 600; touch /root/again; exit 42"]`)
	job := podEnd{"Succeeded", 0, "Completed", "", 1}.check(t, k, "job")
	checkLast(t, job, 42, "Error", "no luck yet\n")
	podEnd{"Failed", 137, "Error", "\n99\n100\nlast words\n", 0}.check(t, k, "killed")
	podEnd{"Failed", 137, "OOMKilled", "the guest was out of memory", 0}.check(t, k, "out-of-memory")
	always := k.WaitRestarts("always", 1)
	k.Delete("always")
	checkLast(t, always, 42, "Error", "")
}

// checkLast checks the end before the last start.
func checkLast(t *testing.T, pod *harness.KubePod, code int, reason, message string) {
	t.Helper()
	last := pod.VM().LastState.Terminated
	if last == nil || last.ExitCode != code || last.Reason != reason || !strings.Contains(last.Message, message) {
		t.Errorf("%s: ended before with %+v, want %d %s %q", pod.Metadata.Name, last, code, reason, message)
	}
}

func machinesThatEnd(t *testing.T, k *harness.Kubelet) {
	const ready = "    readinessProbe: {httpGet: {path: /boot-id, port: 80}, periodSeconds: 1, timeoutSeconds: 10}\n"
	applyPod(k, "poweroff", "OnFailure", ready)
	applyPod(k, "panic", "OnFailure", ready+"    terminationMessagePolicy: FallbackToLogsOnError\n")
	k.WaitReady("poweroff")
	off := k.Running("poweroff")
	k.Node.Eventually(3*time.Minute, func() error { // until the guest is as its pod wants it
		_, err := off.TryExec(t.Context(), "sh", "-c", "echo enough >/dev/termination-log")
		return err
	})
	waitTerminationLog(t, k, off, "enough\n")
	off.ExecDetached("poweroff")
	k.WaitReady("panic")
	k.Running("panic").ExecDetached("echo c >/proc/sysrq-trigger")

	applyPod(k, "qemu-killed", "Always", ready)
	applyPod(k, "too-big", "Never", ready+"    resources: {limits: {memory: 640Mi}}\n")
	podEnd{"Succeeded", 0, "Completed", "enough\n", 0}.check(t, k, "poweroff")
	checkLast(t, k.WaitRestarts("panic", 1), 1, "GuestPanicked", "sysrq_handle_crash")
	k.Delete("panic")

	before := k.WaitReady("qemu-killed")
	killed := k.Running("qemu-killed")
	if err := syscall.Kill(killed.QEMU(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	k.WaitReady("too-big")
	exhaust(t, k.Running("too-big"))
	after := k.WaitRestarts("qemu-killed", 1)
	checkLast(t, after, 137, "Killed", "QEMU died")
	if now := k.Running("qemu-killed"); now.SandboxID != killed.SandboxID || after.Status.PodIP != before.Status.PodIP {
		t.Errorf("it is in sandbox %s with %s now, was in %s with %s", now.SandboxID, after.Status.PodIP, killed.SandboxID, before.Status.PodIP)
	}
	k.Delete("qemu-killed")
	podEnd{"Failed", 137, "OOMKilled", "the pod's cgroup was out of memory", 0}.check(t, k, "too-big")
}

// waitTerminationLog waits until the host has what a machine, which has no command to end, wrote of its end.
func waitTerminationLog(t *testing.T, k *harness.Kubelet, vm *harness.Running, text string) {
	t.Helper()
	for _, m := range vm.Status().GetMounts() {
		if m.GetContainerPath() != "/dev/termination-log" {
			continue
		}
		k.Node.Eventually(time.Minute, func() error {
			got, err := os.ReadFile(m.GetHostPath())
			if err == nil && string(got) != text {
				err = fmt.Errorf("the termination log has %q on the host", got)
			}
			return err
		})
		return
	}
	t.Error("kubelet has mounted no termination log")
}

// exhaust has a guest touch more memory than its pod's cgroup lets QEMU have.
func exhaust(t *testing.T, vm *harness.Running) {
	t.Helper()
	group := podGroup(t, vm.QEMU())
	usage, err := os.ReadFile(filepath.Join(group, "memory.usage_in_bytes"))
	if err != nil {
		t.Fatal(err)
	}
	used, err := strconv.Atoi(strings.TrimSpace(string(usage)))
	if err != nil {
		t.Fatal(err)
	}
	// A little more than QEMU has by now: not by what a boot happens to touch, but by what is touched next.
	if err := os.WriteFile(filepath.Join(group, "memory.limit_in_bytes"), []byte(strconv.Itoa(used+4<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	vm.ExecDetached("mkdir -p /m && mount -t tmpfs -o size=90% none /m && dd if=/dev/zero of=/m/fill bs=1M count=300")
}

// podGroup is kubelet's memory cgroup of the pod that a QEMU is of.
func podGroup(t *testing.T, qemu int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", qemu))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m):memory:(.*/pod[^/]+)/`).FindStringSubmatch(string(text))
	if m == nil {
		t.Fatalf("QEMU is in no pod's memory cgroup: %s", text)
	}
	return filepath.Join("/sys/fs/cgroup/memory", m[1])
}
