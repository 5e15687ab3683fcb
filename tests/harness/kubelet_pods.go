// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// KubePod is what kubelet says of a pod: the part of v1.Pod that tests look at.
type KubePod struct {
	Metadata struct {
		Name, Namespace, UID string
		DeletionTimestamp    *time.Time
	}
	Status struct {
		Phase, Reason, Message, PodIP string
		Conditions                    []struct{ Type, Status, Reason, Message string }
		ContainerStatuses             []KubeContainer
		InitContainerStatuses         []KubeContainer
	}
}

// KubeContainer is the part of v1.ContainerStatus that tests look at.
type KubeContainer struct {
	Name, ContainerID, ImageID string
	Ready                      bool
	Started                    *bool
	RestartCount               int
	State, LastState           KubeState
	Resources                  json.RawMessage
}

// KubeState is one of three.
type KubeState struct {
	Waiting    *struct{ Reason, Message string }
	Running    *struct{ StartedAt time.Time }
	Terminated *struct {
		ExitCode              int
		Reason, Message       string
		StartedAt, FinishedAt time.Time
	}
}

// ID is the container's in CRI.
func (c KubeContainer) ID() string { return strings.TrimPrefix(c.ContainerID, "vmlet://") }

// Condition is the status of a condition, "" if there is none.
func (p *KubePod) Condition(kind string) string {
	for _, c := range p.Status.Conditions {
		if c.Type == kind {
			return c.Status
		}
	}
	return ""
}

// Container is a container by name; its zero value if kubelet has no status of it.
func (p *KubePod) Container(name string) KubeContainer {
	for _, c := range append(p.Status.ContainerStatuses, p.Status.InitContainerStatuses...) {
		if c.Name == name {
			return c
		}
	}
	return KubeContainer{}
}

// VM is the pod's one container.
func (p *KubePod) VM() KubeContainer { return p.Container("vm") }

// Apply gives kubelet a manifest, as the file NAME.yaml; "IMAGE" in it is the tiny guest's.
func (k *Kubelet) Apply(name, manifest string) {
	k.t.Helper()
	manifest = strings.ReplaceAll(manifest, "IMAGE", TinyImage())
	// kubelet reads what appears there: it must be whole then.
	tmp := filepath.Join(k.Dir, name+".tmp")
	k.Node.write(tmp, manifest)
	if err := os.Rename(tmp, k.manifest(name)); err != nil {
		k.t.Fatal(err)
	}
}

// Delete takes a manifest away: kubelet ends the pod.
func (k *Kubelet) Delete(name string) {
	k.t.Helper()
	if err := os.Remove(k.manifest(name)); err != nil {
		k.t.Fatal(err)
	}
}

func (k *Kubelet) manifest(name string) string { return filepath.Join(k.manifests(), name+".yaml") }

// Pods are all pods that kubelet knows.
func (k *Kubelet) Pods() ([]KubePod, error) {
	body, err := k.get(fmt.Sprintf("http://127.0.0.1:%d/pods", kubeletRO))
	if err != nil {
		return nil, err
	}
	var list struct{ Items []KubePod }
	return list.Items, json.Unmarshal([]byte(body), &list) //nolint:musttag // names that differ in case only are found
}

var errNoPod = errors.New("kubelet knows no such pod")

// Pod is the pod of that name in its manifest.
func (k *Kubelet) Pod(name string) (*KubePod, error) {
	pods, err := k.Pods()
	if err != nil {
		return nil, err
	}
	for i := range pods {
		if pods[i].Metadata.Name == name+"-"+kubeletNode {
			return &pods[i], nil
		}
	}
	return nil, fmt.Errorf("%s: %w", name, errNoPod)
}

// WaitPod waits until a pod is as the test wants it, and returns it.
func (k *Kubelet) WaitPod(name string, is func(*KubePod) error) *KubePod {
	k.t.Helper()
	var pod *KubePod
	k.Node.Eventually(logPatience, func() (err error) {
		if pod, err = k.Pod(name); err != nil {
			return err
		}
		if err := is(pod); err != nil {
			text, _ := json.Marshal(pod.Status) //nolint:errcheck,musttag // strings and numbers, for people
			return fmt.Errorf("pod %s: %w: %s", name, err, text)
		}
		return nil
	})
	return pod
}

// WaitReady waits until a pod is Ready.
func (k *Kubelet) WaitReady(name string) *KubePod {
	k.t.Helper()
	return k.WaitPod(name, func(p *KubePod) error {
		if p.Condition("Ready") != "True" {
			return errors.New("is not Ready")
		}
		return nil
	})
}

// WaitPhase waits until a pod is Pending, Running, Succeeded or Failed.
func (k *Kubelet) WaitPhase(name, phase string) *KubePod {
	k.t.Helper()
	return k.WaitPod(name, func(p *KubePod) error {
		if p.Status.Phase != phase {
			return fmt.Errorf("is %s, not %s", p.Status.Phase, phase)
		}
		return nil
	})
}

// WaitRestarts waits until a pod's VM runs for the n-th time after the first.
func (k *Kubelet) WaitRestarts(name string, n int) *KubePod {
	k.t.Helper()
	return k.WaitPod(name, func(p *KubePod) error {
		if c := p.VM(); c.RestartCount < n || c.State.Running == nil {
			return fmt.Errorf("was restarted %d times, not %d", c.RestartCount, n)
		}
		return nil
	})
}

// WaitGone waits until kubelet has ended a pod that was deleted: no VM of it runs, and kubelet has forgotten it.
func (k *Kubelet) WaitGone(name string) {
	k.t.Helper()
	k.Node.Eventually(logPatience, func() error {
		if _, err := k.Pod(name); !errors.Is(err, errNoPod) {
			return fmt.Errorf("pod %s is still there (%w)", name, err)
		}
		return k.noSandbox(name)
	})
}

func (k *Kubelet) noSandbox(name string) error {
	ctx, cancel := k.ctx()
	defer cancel()
	list, err := k.Node.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{
		State: &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_READY},
	}})
	if err != nil {
		return err
	}
	for _, sb := range list.GetItems() {
		if name == "" || sb.GetMetadata().GetName() == name+"-"+kubeletNode {
			return fmt.Errorf("sandbox %s of %s is ready", sb.GetId(), sb.GetMetadata().GetName())
		}
	}
	return nil
}

// removeAll takes all manifests away, and waits until no sandbox is ready.
func (k *Kubelet) removeAll() {
	files, err := filepath.Glob(filepath.Join(k.manifests(), "*.yaml"))
	if err != nil {
		k.t.Error(err)
	}
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			k.t.Error(err)
		}
	}
	deadline := time.Now().Add(2 * time.Minute)
	for {
		pods, err := k.Pods()
		if err == nil && len(pods) > 0 {
			err = fmt.Errorf("%d pods", len(pods))
		}
		if err = errors.Join(err, k.noSandbox("")); err == nil {
			return
		}
		if time.Now().After(deadline) {
			k.t.Errorf("kubelet does not end its pods: %v", err)
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// Running is the pod's present sandbox and container, for what is asked past kubelet. A kubelet that has just been started
// is waited for.
func (k *Kubelet) Running(name string) *Running {
	k.t.Helper()
	pod := k.WaitPod(name, func(p *KubePod) error {
		if p.VM().ID() == "" {
			return errors.New("it has no container")
		}
		return nil
	})
	r := &Running{node: k.Node, ContainerID: pod.VM().ID(), IP: pod.Status.PodIP, pod: Pod{Name: name}}
	ctx, cancel := k.ctx()
	defer cancel()
	list, err := k.Node.ListContainers(ctx, &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{Id: r.ContainerID}})
	if err != nil || len(list.GetContainers()) != 1 {
		k.t.Fatalf("container %s of pod %s: %v, %v", r.ContainerID, name, list, err)
	}
	r.SandboxID = list.GetContainers()[0].GetPodSandboxId()
	return r
}

var eventLine = regexp.MustCompile(`"Event occurred" object="([^"]+)".* type="([^"]+)" reason="([^"]+)" message="((?:[^"\\]|\\.)*)"`)

// Events are what kubelet would tell an API server of a pod, oldest first: "REASON: MESSAGE".
func (k *Kubelet) Events(name string) (events []string) {
	k.t.Helper()
	log, err := os.ReadFile(k.LogFile())
	if err != nil {
		k.t.Fatal(err)
	}
	for _, m := range eventLine.FindAllStringSubmatch(string(log), -1) {
		if strings.HasSuffix(m[1], "/"+name+"-"+kubeletNode) {
			events = append(events, m[3]+": "+strings.ReplaceAll(m[4], `\"`, `"`))
		}
	}
	return events
}

// WaitEvent waits for an event with that text in it, and returns it.
func (k *Kubelet) WaitEvent(name, text string) (event string) {
	k.t.Helper()
	k.Node.Eventually(2*time.Minute, func() error {
		all := k.Events(name)
		for _, e := range all {
			if strings.Contains(e, text) {
				event = e
				return nil
			}
		}
		return fmt.Errorf("no event of %s says %q; there are:\n%s", name, text, strings.Join(all, "\n"))
	})
	return event
}
