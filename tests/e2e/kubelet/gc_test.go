// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kubelet

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// garbageConfig has kubelet free disk space of images from 60 % on, down to 55 %.
const garbageConfig = `imageGCHighThresholdPercent: 60
imageGCLowThresholdPercent: 55
crashLoopBackOff: {maxContainerRestartPeriod: 1s}`

// gcWords are how kubelet begins to say what has come of a collection of images; that it succeeded, at this verbosity alone.
const gcWords, gcVerbosity = "Image garbage collection ", "--v=4"

// TestImagesAndGarbage: what kubelet pulls, and what it has removed. It looks for garbage when it starts, and then every
// minute (containers, sandboxes) or five (images): so it is started again here.
func TestImagesAndGarbage(t *testing.T) {
	node := patientNode(t, harness.WithSmallRoot("240M"))
	disk, err := os.ReadFile(harness.Bin("tiny.qcow2"))
	must(t, err)
	for i, name := range []string{"always", "present", "unused"} {
		// Not the same disk under several names: kubelet notes by which name it was allowed to have an image.
		must(t, harness.TheRegistry().Push(name+":1", append(disk, make([]byte, (i+1)<<16)...)))
	}
	node.Pull(image("present"))
	asked := countPulls(t)
	dir := t.TempDir()
	k := harness.StartKubelet(t, node, harness.WithKubeletConfig(garbageConfig), harness.WithKubeletFlags(gcVerbosity))
	k.Apply("stays", pullPod("stays", "present", "IfNotPresent"))
	k.Apply("crasher", podSpec("crasher", dir, "terminationGracePeriodSeconds: 5", `
command: [sh, -c, 'n=$(cat /data/n 2>/dev/null || echo 0); echo $((n+1)) >/data/n; echo run $n; [ $n -ge 2 ] || exit 1; trap exit TERM; while :; do sleep 0.1; done']`))

	t.Run("pull policies", func(t *testing.T) { pullPolicies(t, k, asked) })
	t.Run("of a container that ended kubelet keeps one record and log", func(t *testing.T) {
		k.WaitRestarts("crasher", 2)
		k.WaitLog("crasher", "run 2")
		attempts(k, "crasher", 1, 2)
		if previous, err := k.Get(k.PodPath("containerLogs", "crasher") + "?previous=true"); err != nil || previous != "run 1\n" {
			t.Errorf("the log of the run before: %q, %v", previous, err)
		}
		waitLogs(k, "crasher", "1.log", "2.log")
	})
	k.WaitReady("stays")
	dead := k.Running("stays").SandboxID
	t.Run("a sandbox that died is made again", func(t *testing.T) {
		_, err := node.StopPodSandbox(t.Context(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: dead})
		must(t, err)
		k.WaitPod("stays", func(p *harness.KubePod) error {
			if p.Condition("Ready") != "True" || k.Running("stays").SandboxID == dead {
				return fmt.Errorf("it has sandbox %s yet", dead)
			}
			return nil
		})
	})
	boots := []string{k.Running("stays").BootID(), k.Running("crasher").BootID()}

	node.Pull(image("unused"))
	must(t, os.WriteFile(filepath.Join(node.LibDir, "node", "filler"), make([]byte, 80<<20), 0o600))
	t.Run("a full disk: an image that is young stays", func(t *testing.T) {
		collected(t, k, "the full disk is not found", func() bool {
			return strings.Contains(logOf(t, k), "over the high threshold")
		})
		if !hasImage(t, node, image("unused")) {
			t.Error("an image was removed before imageMinimumGCAge")
		}
	})
	k.Stop()
	k = harness.StartKubelet(t, node, harness.WithKubeletConfig(garbageConfig),
		harness.WithKubeletFlags(gcVerbosity, "--minimum-image-ttl-duration=0s", "--maximum-dead-containers-per-container=0"))
	t.Run("a full disk: images that nothing uses go", func(t *testing.T) {
		collected(t, k, "the unused image is still there", func() bool { return !hasImage(t, node, image("unused")) })
		if !hasImage(t, node, harness.TinyImage()) {
			t.Error("an image in use was removed")
		}
	})
	t.Run("dead containers go with their logs, dead sandboxes with all", func(t *testing.T) {
		attempts(k, "crasher", 2)
		waitLogs(k, "crasher", "2.log")
		node.Eventually(2*time.Minute, func() error {
			list, err := node.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{})
			if err == nil && len(list.GetItems()) != 2 {
				err = fmt.Errorf("there are %v", list.GetItems())
			}
			return err
		})
		if folders, err := filepath.Glob(filepath.Join(node.LibDir, "node", "sandboxes", "*")); err != nil || len(folders) != 2 {
			t.Errorf("folders of sandboxes: %v, %v", folders, err)
		}
	})
	t.Run("running VMs are untouched", func(t *testing.T) {
		if now := []string{k.Running("stays").BootID(), k.Running("crasher").BootID()}; !slices.Equal(now, boots) {
			t.Errorf("boots %v, before %v", now, boots)
		}
	})
}

func pullPolicies(t *testing.T, k *harness.Kubelet, asked func(string) int) {
	k.Apply("always", pullPod("always", "always", "Always"))
	k.Apply("never", pullPod("never", "never", "Never"))
	k.Apply("nowhere", pullPod("nowhere", "nowhere", "IfNotPresent"))
	k.WaitEvent("stays", "already present on machine")
	if n := asked("present"); n != 0 {
		t.Errorf("IfNotPresent: the registry was asked %d times for an image that is there", n)
	}
	k.WaitEvent("always", "Successfully pulled image")
	k.WaitEvent("always", "Started: Container started")
	if n := asked("always"); n == 0 {
		t.Error("Always: the registry was not asked")
	}
	waiting(k, "never", "ErrImageNeverPull", "is not present with pull policy of Never")
	if n := asked("never"); n != 0 {
		t.Errorf("Never: the registry was asked %d times", n)
	}
	waiting(k, "nowhere", "ErrImagePull", "nowhere:1")
	waiting(k, "nowhere", "ImagePullBackOff", "nowhere:1")
	for _, name := range []string{"always", "never", "nowhere"} {
		k.Delete(name)
	}
}

// collected starts kubelet until its collection of images has come to this. When kubelet starts, that runs beside what it
// needs: without the size of the disk it fails, and what was first seen after it had begun is too young for it. So it may take many
// starts; what has come of each the log says (gcWords).
func collected(t *testing.T, k *harness.Kubelet, otherwise string, is func() bool) {
	t.Helper()
	for range 60 {
		k.Stop()
		before := len(logOf(t, k))
		k.Start()
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			if strings.Contains(logOf(t, k)[before:], gcWords) {
				break
			}
		}
		if is() {
			return
		}
	}
	t.Fatal(otherwise)
}

func logOf(t *testing.T, k *harness.Kubelet) string {
	t.Helper()
	log, err := os.ReadFile(k.LogFile())
	must(t, err)
	return string(log)
}

func image(name string) string { return harness.TheRegistry().Host + "/" + name + ":1" }

func pullPod(name, imageName, policy string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  terminationGracePeriodSeconds: 5
  containers:
  - {name: vm, image: "%s", imagePullPolicy: %s, readinessProbe: {exec: {command: [pgrep, httpd]}, periodSeconds: 1}}
`, name, image(imageName), policy)
}

// countPulls counts what the registry is asked for, by repository.
func countPulls(t *testing.T) (asked func(repository string) int) {
	var mu sync.Mutex
	counts := map[string]int{}
	harness.TheRegistry().Spoil(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if repository, _, is := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/manifests/"); is && r.Method != http.MethodPut {
				mu.Lock()
				counts[repository]++
				mu.Unlock()
			}
			next.ServeHTTP(w, r)
		})
	})
	return func(repository string) int {
		mu.Lock()
		defer mu.Unlock()
		return counts[repository]
	}
}

// waiting waits until a pod's VM waits for this reason.
func waiting(k *harness.Kubelet, pod, reason, says string) {
	k.WaitPod(pod, func(p *harness.KubePod) error {
		if w := p.VM().State.Waiting; w == nil || w.Reason != reason || !strings.Contains(w.Message, says) {
			return fmt.Errorf("it does not wait for %s with %q", reason, says)
		}
		return nil
	})
}

// attempts waits until these are all containers that there are of a pod.
func attempts(k *harness.Kubelet, pod string, want ...uint32) {
	k.Node.Eventually(time.Minute, func() error {
		list, err := k.Node.ListContainers(context.Background(), &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{
			LabelSelector: map[string]string{"io.kubernetes.pod.name": pod + "-node1"},
		}})
		var got []uint32
		for _, c := range list.GetContainers() {
			got = append(got, c.GetMetadata().GetAttempt())
		}
		if slices.Sort(got); err == nil && !slices.Equal(got, want) {
			err = fmt.Errorf("attempts %v, want %v", got, want)
		}
		return err
	})
}

// waitLogs waits until these are all logs that there are of a pod.
func waitLogs(k *harness.Kubelet, pod string, want ...string) {
	k.Node.Eventually(time.Minute, func() error {
		files, err := filepath.Glob(filepath.Join(k.LogDir(), "default_"+pod+"-node1_*", "vm", "*"))
		var got []string
		for _, f := range files {
			got = append(got, filepath.Base(f))
		}
		if err == nil && !slices.Equal(got, want) {
			err = fmt.Errorf("logs %v, want %v", got, want)
		}
		return err
	})
}

func hasImage(t *testing.T, node *harness.Node, ref string) bool {
	t.Helper()
	status, err := node.Images.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: ref}})
	must(t, err)
	return status.GetImage() != nil
}
