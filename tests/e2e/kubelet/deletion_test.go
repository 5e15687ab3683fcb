// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kubelet

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// withUserData gives a manifest of podSpec's a script that runs early in each boot of its guest, and, as an API server
// would, a UID and what else metadata has.
func withUserData(manifest, script string, metadata ...string) string {
	name, rest, _ := strings.Cut(strings.TrimPrefix(manifest, "apiVersion: v1\nkind: Pod\nmetadata: {name: "), "}\n")
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata:\n  name: %s\n%s\n  annotations:\n    vmlet.io/user-data: |\n%s\n%s",
		name, indent(2, strings.Join(metadata, "\n")), indent(6, "#cloud-boothook\n#!/bin/sh\n"+script), rest)
}

// What a guest does when it is asked to power off. Its agent asks the init system's program, and init that to do it.
const (
	deafToAgent = `
mkdir /usr/init; mv /usr/bin/poweroff /usr/init/
printf '#!/bin/sh\n[ "$1" != -f ] || exec /usr/init/poweroff -f\n' >/usr/bin/poweroff; chmod 755 /usr/bin/poweroff`
	// slowPowerOff takes five seconds and says so.
	slowPowerOff = deafToAgent + `
printf '#!/bin/sh\nmkdir /run/ending 2>/dev/null || exit 0\necho asked >>/data/order; sleep 5; echo off >>/data/order; sync; kill -USR2 1\n' >/etc/acpi/PWRF/00000080`
	// noPowerOff hears it and does nothing.
	noPowerOff = deafToAgent + `
printf '#!/bin/sh\necho asked >>/data/order\n' >/etc/acpi/PWRF/00000080`
	// slowBoot keeps the agent from starting.
	slowBoot = "sleep 600"
)

func TestDeletion(t *testing.T) {
	node := patientNode(t)
	k := harness.StartKubelet(t, node)
	dir, registry := t.TempDir(), slowRegistry(t, "slow")
	runPods(t, []podScenario{
		{"a guest that takes its time to power off is given it", func() {
			k.Apply("slow-off", withUserData(podSpec("slow-off", dir, "terminationGracePeriodSeconds: 60", ready), slowPowerOff))
		}, func(t *testing.T) {
			k.WaitReady("slow-off")
			if took := deletion(k, "slow-off"); took < 5*time.Second || took > 50*time.Second {
				t.Errorf("it took %s", took)
			}
			if order := sharedText(t, dir, "slow-off", "order"); order != "asked\noff\n" {
				t.Errorf("what happened in the guest: %q", order)
			}
		}},
		{"a guest that ignores the power button is killed at the end of its grace", func() {
			k.Apply("deaf", withUserData(podSpec("deaf", dir, "terminationGracePeriodSeconds: 4", ready), noPowerOff))
		}, func(t *testing.T) {
			k.WaitReady("deaf")
			if took := deletion(k, "deaf"); took < 4*time.Second || took > 20*time.Second {
				t.Errorf("it took %s, with 4 s of grace", took)
			}
		}},
		{"a command gets SIGTERM, and SIGKILL at the end of its grace", func() {
			k.Apply("stubborn", podSpec("stubborn", dir, "terminationGracePeriodSeconds: 4", `
command: [sh, -c, 'trap "echo SIGTERM >>/data/order" TERM; echo started >>/data/order; while :; do sleep 0.1; done']`))
		}, func(t *testing.T) {
			waitShared(k, "started", dir, "stubborn", "order")
			if took := deletion(k, "stubborn"); took < 4*time.Second || took > 20*time.Second {
				t.Errorf("it took %s, with 4 s of grace", took)
			}
			if order := sharedText(t, dir, "stubborn", "order"); order != "started\nSIGTERM\n" {
				t.Errorf("what happened in the guest: %q", order)
			}
		}},
		// kubelet without an API server hears of a deletion by the manifest's absence. What kubectl delete does is to give
		// the pod a time of deletion and a grace: kubelet takes these from a file too, if the pod has a UID of its own.
		// While kubelet waits for a container to end it tells the runtime of no shorter grace: SyncTerminatingPod keeps no
		// context that could end the call. So the call that it would make is made here.
		{"a second deletion without grace cuts the first one short", func() { k.Apply("twice", deletedPod(dir)) }, func(t *testing.T) {
			vm := k.WaitReady("twice").VM()
			begin := time.Now()
			k.Apply("twice", deletedPod(dir, `deletionTimestamp: "2026-01-01T00:00:00Z"`, "deletionGracePeriodSeconds: 600"))
			k.WaitEvent("twice", "Killing: Stopping container vm")
			waitShared(k, "asked", dir, "twice", "order")
			k.Apply("twice", deletedPod(dir, `deletionTimestamp: "2026-01-01T00:00:00Z"`, "deletionGracePeriodSeconds: 0"))
			const minimum = 2 // seconds, that kubelet gives at least
			_, err := node.StopContainer(t.Context(), &runtimeapi.StopContainerRequest{
				ContainerId: strings.TrimPrefix(vm.ContainerID, "vmlet://"), Timeout: minimum,
			})
			if err != nil {
				t.Error(err)
			}
			notRunning(k, "twice")
			if took := time.Since(begin); took > 40*time.Second {
				t.Errorf("it took %s", took)
			}
			deletion(k, "twice")
		}},
		{"deletion while the guest boots", func() {
			k.Apply("booting", withUserData(podSpec("booting", dir, "terminationGracePeriodSeconds: 4", "command: [touch, /data/started]"), slowBoot))
		}, func(t *testing.T) {
			k.WaitPhase("booting", "Running")
			if took := deletion(k, "booting"); took > 30*time.Second {
				t.Errorf("it took %s, with 4 s of grace", took)
			}
			if _, err := os.Stat(filepath.Join(dir, "booting", "started")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the command was started in a guest that was being ended: %v", err)
			}
		}},
		// kubelet ends a pod only when its postStart hook has ended, whatever the runtime, and sets no time for that.
		{"deletion while a postStart hook waits for the guest", func() {
			manifest := withUserData(podSpec("hooked", dir, "terminationGracePeriodSeconds: 4",
				"lifecycle: {postStart: {exec: {command: [touch, /data/hooked]}}}"), slowBoot)
			k.Apply("hooked", strings.Replace(manifest, "  annotations:\n", "  annotations:\n    vmlet.io/agent-timeout: 10s\n", 1))
		}, func(t *testing.T) {
			k.WaitEvent("hooked", "Started")
			if took := deletion(k, "hooked"); took > 40*time.Second {
				t.Errorf("it took %s, with a hook of at most 10 s and 4 s of grace", took)
			}
			k.WaitEvent("hooked", "FailedPostStartHook: PostStartHook failed")
		}},
		// Neither does kubelet end a pod before the pull of its image, nor does it tell the runtime to give that up.
		{"deletion while the image is pulled", func() {
			k.Apply("pulling", strings.ReplaceAll(podSpec("pulling", dir, "terminationGracePeriodSeconds: 2", ready), "IMAGE", registry.image))
		}, func(t *testing.T) {
			registry.waitPull(t)
			k.Delete("pulling")
			node.Eventually(30*time.Second, func() error {
				if pod, err := k.Pod("pulling"); err == nil || pod != nil {
					return errors.New("kubelet has not heard of the deletion")
				}
				return nil
			})
			close(registry.goOn)
			k.WaitGone("pulling")
			if status, err := node.Images.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: registry.image}}); err != nil || status.GetImage() == nil {
				t.Errorf("the image that was pulled: %v, %v", status, err)
			}
			if parts, err := filepath.Glob(filepath.Join(node.LibDir, "node", "images", "parts", "*")); err != nil || len(parts) > 0 {
				t.Errorf("parts are left: %v, %v", parts, err)
			}
		}},
		{"deletion while a probe hangs", func() {
			k.Apply("probed", podSpec("probed", dir, "terminationGracePeriodSeconds: 30", `
readinessProbe: {exec: {command: [sh, -c, 'echo probe >>/data/order; sleep 1000']}, timeoutSeconds: 500}
livenessProbe: {exec: {command: [sleep, '1000']}, timeoutSeconds: 500}`))
		}, func(t *testing.T) {
			waitShared(k, "probe", dir, "probed", "order")
			if took := deletion(k, "probed"); took > 25*time.Second {
				t.Errorf("it took %s: the probe held it up", took)
			}
		}},
	})
}

// ready is a probe that says when a machine has booted and has its volumes.
const ready = "readinessProbe: {exec: {command: [pgrep, httpd]}, periodSeconds: 1}"

// deletedPod is a pod whose guest hears the power button and does nothing, with what an API server notes of a deletion.
func deletedPod(dir string, deletion ...string) string {
	return withUserData(podSpec("twice", dir, "terminationGracePeriodSeconds: 600", ready), noPowerOff, append([]string{"uid: 0b5d4c1e-0000-4000-8000-000000000001"}, deletion...)...)
}

// deletion deletes a pod and tells how long it took until it was gone.
func deletion(k *harness.Kubelet, name string) time.Duration {
	begin := time.Now()
	deletePod(k, name)
	return time.Since(begin)
}

// notRunning waits until a pod's VM has ended, with the pod still there.
func notRunning(k *harness.Kubelet, name string) {
	k.WaitPod(name, func(p *harness.KubePod) error {
		if p.VM().State.Terminated == nil {
			return errors.New("its VM has not ended")
		}
		return nil
	})
}

// waitShared waits until a guest has written a text to a file of its folder.
func waitShared(k *harness.Kubelet, text string, path ...string) {
	file := filepath.Join(path...)
	k.Node.Eventually(3*time.Minute, func() error {
		got, err := os.ReadFile(file)
		if err == nil && !strings.Contains(string(got), text) {
			err = fmt.Errorf("%s has %q", file, got)
		}
		return err
	})
}

// spoiled is an image whose disk the registry sends a part of, and the rest when goOn is closed.
type spoiled struct {
	image       string
	begun, goOn chan struct{}
}

func slowRegistry(t *testing.T, name string) *spoiled {
	t.Helper()
	disk, err := os.ReadFile(harness.Bin("tiny.qcow2"))
	if err != nil {
		t.Fatal(err)
	}
	registry := harness.TheRegistry()
	if err := registry.Push(name+":1", append(disk, make([]byte, 1<<16)...)); err != nil {
		t.Fatal(err)
	}
	s := &spoiled{image: registry.Host + "/" + name + ":1", begun: make(chan struct{}), goOn: make(chan struct{})}
	var begin sync.Once
	registry.Spoil(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/v2/"+name+"/blobs/") {
				w = &stalling{ResponseWriter: w, left: 1 << 20, stall: func() {
					begin.Do(func() { close(s.begun) })
					select {
					case <-s.goOn:
					case <-r.Context().Done():
					}
				}}
			}
			next.ServeHTTP(w, r)
		})
	})
	return s
}

func (s *spoiled) waitPull(t *testing.T) {
	t.Helper()
	select {
	case <-s.begun:
	case <-time.After(time.Minute):
		t.Fatal("nobody pulls")
	}
}

// stalling is an answer that stops for a while after some bytes.
type stalling struct {
	http.ResponseWriter
	left  int
	stall func()
}

// Write implements io.Writer.
func (w *stalling) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 && w.stall != nil {
		if f, ok := w.ResponseWriter.(http.Flusher); ok {
			f.Flush()
		}
		w.stall()
		w.stall = nil
	}
	return w.ResponseWriter.Write(p)
}
