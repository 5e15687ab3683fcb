// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kubelet

import (
	"strings"
	"testing"
	"time"

	"github.com/vmlet/vmlet/tests/harness"
)

const machinePod = `apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  terminationGracePeriodSeconds: GRACE
  priority: PRIORITY
  containers:
  - name: vm
    image: IMAGE
    readinessProbe: {httpGet: {path: /boot-id, port: 80}, periodSeconds: 1, timeoutSeconds: 10}
`

// applyMachine runs a VM without a command: its log is its console.
func applyMachine(k *harness.Kubelet, name, grace, priority string) {
	k.Apply(name, strings.NewReplacer("NAME", name, "GRACE", grace, "PRIORITY", priority).Replace(machinePod))
}

// waitMachine waits until the guest is up, with its agent.
func waitMachine(k *harness.Kubelet, name string) *harness.Running {
	k.WaitReady(name)
	k.WaitLog(name, "READY boot_id=")
	return k.Running(name)
}

// What is done in the guests before the node goes down.
const (
	// inOrder has the guest tell of the button, and run a service that wants to be ended before the disk is.
	inOrder = `sed -i '2i echo guest: power button >/dev/ttyS0' /etc/acpi/PWRF/00000080
(trap '' HUP; trap 'echo guest: service saved >/dev/ttyS0; exit' TERM; while :; do sleep 0.1; done) >/dev/null 2>&1 </dev/null &`
	// deaf has the guest ignore whatever asks it to power off: the button, and either agent.
	deaf = `printf '#!/bin/sh\necho guest: ignored >/dev/ttyS0\n' >/tmp/deaf && chmod 755 /tmp/deaf
for program in /usr/bin/shutdown /usr/bin/poweroff /etc/acpi/PWRF/00000080; do rm $program && cp /tmp/deaf $program; done`
)

// TestGracefulNodeShutdown: logind tells kubelet, kubelet ends its pods, and VMs get the power button: critical pods
// last, and who does not listen is killed when the pod's grace is over.
func TestGracefulNodeShutdown(t *testing.T) {
	node := harness.StartNode(t)
	logind := harness.StartLogind(t, time.Minute)
	k := harness.StartKubelet(t, node, harness.WithKubeletEnv("DBUS_SYSTEM_BUS_ADDRESS="+logind.Address),
		harness.WithKubeletConfig("shutdownGracePeriod: 40s\nshutdownGracePeriodCriticalPods: 20s"))
	node.Eventually(20*time.Second, func() error { return want("inhibitors", logind.Held(), 1) })
	applyMachine(k, "obeys", "15", "0")
	applyMachine(k, "deaf", "6", "0")
	applyMachine(k, "critical", "15", "2000000000")
	for name, script := range map[string]string{"obeys": inOrder, "deaf": deaf, "critical": inOrder} {
		waitMachine(k, name).Exec("sh", "-c", script)
	}

	down := time.Now()
	if err := logind.PrepareForShutdown(true); err != nil {
		t.Fatal(err)
	}
	select {
	case <-logind.Released():
	case <-time.After(time.Minute):
		t.Fatal("kubelet still holds the shutdown up")
	}
	t.Logf("kubelet let the node go down after %.1f s", time.Since(down).Seconds())
	if left := harness.Virsh(t, "list", "--name"); left != "" {
		t.Errorf("VMs run when the node goes down: %s", left)
	}

	obeyed := ended(t, k, "obeys")
	if obeyed.code != 0 || obeyed.at.Sub(down) > 12*time.Second {
		t.Errorf("the guest that obeys ended with %d %s after %s", obeyed.code, obeyed.reason, obeyed.at.Sub(down))
	}
	inThisOrder(t, k.Log("obeys"), "guest: power button", "init: poweroff", "guest: service saved", "Power down")

	ignored := ended(t, k, "deaf")
	if took := ignored.at.Sub(down); ignored.code != 137 || took < 5*time.Second || took > 12*time.Second {
		t.Errorf("the deaf guest ended with %d %s after %s, its grace is 6 s", ignored.code, ignored.reason, took)
	}
	if log := k.Log("deaf"); !strings.Contains(log, "guest: ignored") || strings.Contains(log, "Power down") {
		t.Errorf("the log of the deaf guest: %s", log)
	}

	critical := ended(t, k, "critical")
	if critical.code != 0 || critical.at.Before(ignored.at) {
		t.Errorf("the critical pod ended with %d %s at %s, the others at %s and %s", critical.code, critical.reason, critical.at, obeyed.at, ignored.at)
	}
	inThisOrder(t, k.Log("critical"), "guest: power button", "init: poweroff", "guest: service saved", "Power down")

	applyMachine(k, "late", "5", "0")
	k.WaitPod("late", func(p *harness.KubePod) error { return want("reason", p.Status.Reason, "NodeShutdown") })
	if err := logind.PrepareForShutdown(false); err != nil {
		t.Fatal(err)
	}
	node.Eventually(20*time.Second, func() error { return want("inhibitors", logind.Held(), 2) })
}

// end is how a pod's VM ended, as kubelet shows it.
type end struct {
	code   int
	reason string
	at     time.Time
}

func ended(t *testing.T, k *harness.Kubelet, name string) end {
	t.Helper()
	pod := k.WaitPhase(name, "Failed")
	if pod.Status.Reason != "Terminated" || !strings.Contains(pod.Status.Message, "imminent node shutdown") {
		t.Errorf("pod %s: %s: %s", name, pod.Status.Reason, pod.Status.Message)
	}
	st := pod.VM().State.Terminated
	if st == nil {
		t.Fatalf("pod %s: its VM is %+v", name, pod.VM().State)
	}
	return end{st.ExitCode, st.Reason, st.FinishedAt}
}

// inThisOrder finds texts one after another.
func inThisOrder(t *testing.T, log string, texts ...string) {
	t.Helper()
	rest := log
	for _, text := range texts {
		_, after, ok := strings.Cut(rest, text)
		if !ok {
			t.Errorf("no %q where it should be in the log: %s", text, log)
			return
		}
		rest = after
	}
}
