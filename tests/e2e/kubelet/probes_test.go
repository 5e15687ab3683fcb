// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kubelet

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmlet/vmlet/tests/harness"
)

var probeScenarios = []live{
	{"exec, http and tcp probes, and a failing liveness probe restarts the VM in its sandbox", probesOfThreeKinds},
	{"a slow guest has the time that its startup probe gives, and a too slow one is restarted", slowGuests},
	{"a guest whose agent hangs fails its exec probe, and is restarted", hungGuest},
	{"gRPC probe", grpcProbe},
}

// probesOfThreeKinds has each probe fail and succeed by what is, or is not, in the guest.
func probesOfThreeKinds(t *testing.T, k *harness.Kubelet) {
	k.ApplyFile("probes")
	t.Cleanup(func() { k.Delete("probes") })
	pod := k.WaitRunning("probes")
	k.WaitEvent("probes", "Startup probe failed")
	if pod, err := k.Pod("probes"); err != nil || *pod.VM().Started || pod.VM().RestartCount != 0 {
		t.Errorf("started before its startup probe succeeded: %+v, %v", pod, err)
	}

	k.WaitLog("probes", "READY")
	vm := k.Running("probes")
	vm.Exec("touch", "/run/started", "/root/kept")
	k.WaitEvent("probes", "Readiness probe failed: HTTP probe failed with statuscode: 404")
	vm.Exec("touch", "/run/www/ready")
	k.WaitReady("probes")
	boot := vm.BootID()
	vm.Exec("rm", "/run/www/ready")
	k.WaitPod("probes", notReady)

	vm.Exec("killall", "httpd")
	k.WaitEvent("probes", "Liveness probe failed: dial tcp")
	again := k.WaitRestarts("probes", 1)
	k.WaitEvent("probes", "Killing: Container vm failed liveness probe, will be restarted")
	next := k.Running("probes")
	if next.SandboxID != vm.SandboxID || again.Status.PodIP != pod.Status.PodIP {
		t.Errorf("it is in sandbox %s with %s now, was in %s with %s", next.SandboxID, again.Status.PodIP, vm.SandboxID, pod.Status.PodIP)
	}
	if next.BootID() == boot {
		t.Error("the guest has not booted again")
	}
	next.Exec("test", "-e", "/root/kept")
}

func slowGuests(t *testing.T, k *harness.Kubelet) {
	const slow = `apiVersion: v1
kind: Pod
metadata:
  name: NAME
  annotations:
    vmlet.io/user-data: |
      #cloud-boothook
      #!/bin/sh
      # Nobody listens yet on the port that is probed.
      sleep 12
      httpd -p 8080 -h /run/www
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: vm
    image: IMAGE
    startupProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: THRESHOLD}
    livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 2}
    readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, timeoutSeconds: 5}
`
	for name, threshold := range map[string]string{"slow": "120", "too-slow": "5"} {
		k.Apply(name, strings.NewReplacer("NAME", name, "THRESHOLD", threshold).Replace(slow))
	}
	k.WaitEvent("too-slow", "Killing: Container vm failed startup probe, will be restarted")
	k.Delete("too-slow")
	pod := k.WaitReady("slow")
	k.Delete("slow")
	if pod.VM().RestartCount != 0 {
		t.Errorf("the slow guest was restarted %d times", pod.VM().RestartCount)
	}
	if took := len(eventsWith(k, "slow", "Startup probe failed")); took < 5 {
		t.Errorf("the startup probe failed %d times only: the guest was not slow", took)
	}
	if failed := eventsWith(k, "slow", "Liveness probe failed"); len(failed) > 0 {
		t.Errorf("the liveness probe did not wait for the startup probe: %v", failed)
	}
}

// hungGuest: a probe that has no answer is one that fails.
func hungGuest(t *testing.T, k *harness.Kubelet) {
	k.Apply("hung", `apiVersion: v1
kind: Pod
metadata: {name: hung}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - name: vm
    image: IMAGE
    startupProbe: {exec: {command: ["true"]}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 60}
    livenessProbe: {exec: {command: ["true"]}, periodSeconds: 1, timeoutSeconds: 3, failureThreshold: 2}
`)
	t.Cleanup(func() { k.Delete("hung") })
	k.WaitPod("hung", func(p *harness.KubePod) error {
		if started := p.VM().Started; started == nil || !*started {
			return errors.New("has not started")
		}
		return nil
	})
	k.Running("hung").ExecDetached("kill -STOP $(pgrep vmlet-agent)")
	k.WaitRestarts("hung", 1)
	if event := k.WaitEvent("hung", "Liveness probe failed"); !strings.Contains(event, "timed out") {
		t.Errorf("event %q", event)
	}
}

// grpcProbe: the tiny guest serves no gRPC, so it runs a program of ours that does.
func grpcProbe(t *testing.T, k *harness.Kubelet) {
	folder := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-s -w", "-tags", "grpcnotrace", "-o", filepath.Join(folder, "health"), "./health")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	k.Apply("grpc", strings.ReplaceAll(`apiVersion: v1
kind: Pod
metadata: {name: grpc}
spec:
  terminationGracePeriodSeconds: 2
  volumes: [{name: programs, hostPath: {path: FOLDER, type: Directory}}]
  containers:
  - name: vm
    image: IMAGE
    command: [/programs/health, ":9000", /run/serving]
    volumeMounts: [{name: programs, mountPath: /programs, readOnly: true}]
    readinessProbe: {grpc: {port: 9000, service: vm}, periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 1}
`, "FOLDER", folder))
	t.Cleanup(func() { k.Delete("grpc"); k.WaitGone("grpc") }) // before the folder goes
	k.WaitLog("grpc", "listening on")
	k.WaitEvent("grpc", `Readiness probe failed: service unhealthy (responded with "NOT_SERVING")`)
	vm := k.Running("grpc")
	vm.Exec("touch", "/run/serving")
	k.WaitReady("grpc")
	vm.Exec("rm", "/run/serving")
	k.WaitPod("grpc", notReady)
}

func notReady(p *harness.KubePod) error {
	if p.Condition("Ready") != "False" {
		return fmt.Errorf("condition Ready is %q", p.Condition("Ready"))
	}
	return nil
}

func eventsWith(k *harness.Kubelet, name, text string) (found []string) {
	for _, e := range k.Events(name) {
		if strings.Contains(e, text) {
			found = append(found, e)
		}
	}
	return found
}
