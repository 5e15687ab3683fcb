// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kubelet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vmlet/vmlet/tests/harness"
)

// countingPod prints a number every half second. Its volume, if it has one, is a share, which a virtiofsd serves. It may
// do all in its guest: TestAFullDisk has it write no more.
const countingPod = `apiVersion: v1
kind: Pod
metadata: {name: NAME, annotations: {vmlet.io/agent-timeout: 5m}}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - name: vm
    image: IMAGE
    securityContext: {privileged: true}
    command: [sh, -c, 'i=0; while :; do i=$((i+1)); echo count $i; sleep 0.5; done']
    readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 1, timeoutSeconds: 10}
`

const sharedVolume = `    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, hostPath: {path: SHARED, type: Directory}}]
`

// steady is a pod that is not to notice what is done to the node.
type steady struct {
	name, boot, container string
	// sandbox is that of a pod with a share, else "".
	sandbox string
}

// runSteady starts n counting pods, every third of which has a share: as many at once as boot quickly beside each other.
func runSteady(t *testing.T, k *harness.Kubelet, n int) (pods []steady) {
	t.Helper()
	shared := filepath.Join(k.Dir, "shared")
	if err := os.Mkdir(shared, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(shared, "marker"), []byte("from the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	const atOnce = 3
	for i := range n + atOnce {
		if i < n {
			pods = append(pods, steady{name: fmt.Sprintf("steady-%d", i)})
			manifest := strings.ReplaceAll(countingPod, "NAME", pods[i].name)
			if i%3 == 0 {
				manifest += strings.ReplaceAll(sharedVolume, "SHARED", shared)
			}
			k.Apply(pods[i].name, manifest)
		}
		if up := i - atOnce; up >= 0 {
			pods[up].wait(t, k, up%3 == 0)
		}
	}
	return pods
}

// wait waits until a pod counts, and keeps what it is not to lose.
func (p *steady) wait(t *testing.T, k *harness.Kubelet, shares bool) {
	t.Helper()
	k.WaitLog(p.name, "count 1\n")
	p.container = k.WaitReady(p.name).VM().ContainerID
	p.boot = bootID(t, k, p.name)
	if shares {
		p.sandbox = k.Running(p.name).SandboxID
	}
}

func bootID(t *testing.T, k *harness.Kubelet, name string) string {
	t.Helper()
	id, err := k.Run(name, "cat /proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(id)
}

// fleet is steady pods, and the parts of the node that they run on.
type fleet struct {
	t    *testing.T
	node *harness.Node
	k    *harness.Kubelet
	pods []steady
	// ended are the virtiofsds that were ended.
	ended []int
}

// part is one that is ended, by SIGTERM or SIGKILL, and comes back as its supervisor would bring it back.
type part struct {
	name     string
	end      func(sig syscall.Signal)
	comeBack func()
}

// parts are in the order in which they come back: kubelet does not start without its runtime. Nobody but vmlet
// brings virtiofsd back.
func (f *fleet) parts() []part {
	return []part{
		{"vmlet", bySignal(f.node.Stop, f.node.Kill9), func() { f.node.StartNotServing() }},
		{"libvirtd", bySignal(func() { harness.StopLibvirtd(f.t) }, func() { harness.KillLibvirtd(f.t) }), func() { harness.StartLibvirtd(f.t) }},
		{"virtiofsd", f.endVirtiofsd, func() {}},
		{"kubelet", bySignal(f.k.Stop, f.k.Kill9), func() { f.node.WaitServing(time.Minute); f.k.Start() }},
	}
}

func bySignal(term, kill func()) func(syscall.Signal) {
	return func(sig syscall.Signal) {
		if sig == syscall.SIGKILL {
			kill()
		} else {
			term()
		}
	}
}

func (f *fleet) endVirtiofsd(sig syscall.Signal) {
	f.t.Helper()
	for _, pod := range f.pods {
		if pod.sandbox == "" {
			continue
		}
		pids := harness.Processes(f.t, "virtiofsd", pod.sandbox)
		if len(pids) == 0 {
			f.t.Fatalf("no virtiofsd has the share of %s", pod.name)
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
				f.t.Fatal(err)
			}
		}
		f.ended = append(f.ended, pids...)
	}
}

// whole waits until the node is whole again. No pod may have noticed.
func (f *fleet) whole() {
	f.t.Helper()
	f.node.WaitServing(time.Minute)
	for _, pod := range f.pods {
		f.node.Eventually(time.Minute, func() error { return f.unmoved(pod) })
		if pod.sandbox != "" {
			f.node.Eventually(time.Minute, func() error { return f.shares(pod) })
		}
	}
}

// unmoved tells whether a pod is what it was, as far as kubelet knows.
func (f *fleet) unmoved(pod steady) error {
	got, err := f.k.Pod(pod.name)
	if err != nil {
		return err
	}
	if vm := got.VM(); vm.ContainerID != pod.container || vm.RestartCount != 0 || got.Condition("Ready") != "True" {
		return fmt.Errorf("pod %s: Ready %s, container %s (was %s), restarts %d", pod.name, got.Condition("Ready"), vm.ContainerID, pod.container, vm.RestartCount)
	}
	return nil
}

// shares tells whether a pod's share is served. Who touches one whose virtiofsd is dead waits until vmlet has
// pulled it out, so this looks from outside first.
func (f *fleet) shares(pod steady) error {
	alive := slices.ContainsFunc(harness.Processes(f.t, "virtiofsd", pod.sandbox), func(pid int) bool { return !slices.Contains(f.ended, pid) })
	if !alive {
		return fmt.Errorf("pod %s has no virtiofsd", pod.name)
	}
	_, err := f.k.Run(pod.name, "timeout 5 cat /data/marker")
	return err
}

// round ends parts in the given order, and brings them all back.
func (f *fleet) round(order []part, signals []syscall.Signal) {
	f.t.Helper()
	began, names := time.Now(), []string{}
	for i, p := range order {
		names = append(names, fmt.Sprintf("%s by %s", p.name, signals[i]))
		p.end(signals[i])
	}
	for _, p := range f.parts() {
		if slices.ContainsFunc(order, func(o part) bool { return o.name == p.name }) {
			p.comeBack()
		}
	}
	f.whole()
	f.t.Logf("%4.1f s: %s", time.Since(began).Seconds(), strings.Join(names, ", "))
}

// verify asks the guests, and reads their logs to the present end.
func (f *fleet) verify() {
	f.t.Helper()
	for _, pod := range f.pods {
		if boot := bootID(f.t, f.k, pod.name); boot != pod.boot {
			f.t.Errorf("pod %s: boot ID %s, was %s", pod.name, boot, pod.boot)
		}
		so := len(f.k.Numbers(pod.name, "count"))
		f.node.Eventually(30*time.Second, func() error {
			if now := len(f.k.Numbers(pod.name, "count")); now <= so {
				return fmt.Errorf("the log of %s does not go on after %d lines", pod.name, now)
			}
			return nil
		})
		if err := harness.CheckNumbers(f.k.Numbers(pod.name, "count")); err != nil {
			f.t.Errorf("the log of %s: %v", pod.name, err)
		}
	}
}

// fromEnv reads a variable, if there is one.
func fromEnv[T any](t *testing.T, name string, value *T) {
	t.Helper()
	if text := os.Getenv(name); text != "" {
		if _, err := fmt.Sscan(text, value); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

// TestNoGuestNoticesWhatEndsOnTheNode: every part of the node is ended and killed, one by one and all at once.
func TestNoGuestNoticesWhatEndsOnTheNode(t *testing.T) {
	seed, count := uint64(time.Now().UnixNano()), 10
	fromEnv(t, "SEED", &seed)
	fromEnv(t, "PODS", &count)
	t.Logf("SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	node := harness.StartNode(t)
	f := &fleet{t: t, node: node, k: harness.StartKubelet(t, node)}
	f.pods = runSteady(t, f.k, count)

	both := []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL}
	var rounds []func()
	for _, p := range f.parts() {
		for _, sig := range both {
			rounds = append(rounds, func() { f.round([]part{p}, []syscall.Signal{sig}) })
		}
	}
	for range 2 {
		rounds = append(rounds, func() {
			order, signals := f.parts(), []syscall.Signal{}
			random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
			for range order {
				signals = append(signals, both[random.IntN(2)])
			}
			f.round(order, signals)
		})
	}
	random.Shuffle(len(rounds), func(i, j int) { rounds[i], rounds[j] = rounds[j], rounds[i] })
	for _, round := range rounds {
		round()
	}
	f.verify()
}

func want[T comparable](what string, got, wanted T) error {
	if got != wanted {
		return fmt.Errorf("%s: %v, not %v", what, got, wanted)
	}
	return nil
}
