// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Pod says what to run. Only Name is needed.
type Pod struct {
	Name        string
	Attempt     uint32
	Image       string
	Annotations map[string]string
	Resources   *runtimeapi.LinuxContainerResources
	// Command runs in the guest as its main process; none for a guest that simply boots.
	Command []string
	// Sandbox and Container may change the requests.
	Sandbox   func(*runtimeapi.PodSandboxConfig)
	Container func(*runtimeapi.ContainerConfig)
}

// Running is a pod that was run.
type Running struct {
	node             *Node
	Config           *runtimeapi.PodSandboxConfig
	SandboxID        string
	ContainerID      string
	ContainerAttempt uint32
	IP               string
	pod              Pod
}

// SandboxConfig is the request for the pod's sandbox.
func (n *Node) SandboxConfig(p Pod) *runtimeapi.PodSandboxConfig {
	c := &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: p.Name, Namespace: "test", Uid: "uid-" + p.Name, Attempt: p.Attempt},
		Hostname:     p.Name,
		LogDirectory: filepath.Join(n.LogDir(), p.Name),
		Annotations:  p.Annotations,
		Linux:        &runtimeapi.LinuxPodSandboxConfig{},
	}
	if p.Sandbox != nil {
		p.Sandbox(c)
	}
	return c
}

// ContainerConfig is the request for the pod's container.
func (*Node) ContainerConfig(p Pod, attempt uint32) *runtimeapi.ContainerConfig {
	image := p.Image
	if image == "" {
		image = TinyImage()
	}
	c := &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "vm", Attempt: attempt},
		Image:    &runtimeapi.ImageSpec{Image: image},
		Command:  p.Command,
		LogPath:  fmt.Sprintf("vm/%d.log", attempt),
		Linux:    &runtimeapi.LinuxContainerConfig{Resources: p.Resources},
	}
	if p.Container != nil {
		p.Container(c)
	}
	return c
}

// RunSandbox runs the pod's sandbox only.
func (n *Node) RunSandbox(p Pod) *Running {
	n.t.Helper()
	r := &Running{node: n, pod: p, Config: n.SandboxConfig(p)}
	sb, err := n.RunPodSandbox(n.t.Context(), &runtimeapi.RunPodSandboxRequest{Config: r.Config})
	if err != nil {
		n.t.Fatalf("run sandbox %s: %v", p.Name, err)
	}
	r.SandboxID = sb.GetPodSandboxId()
	r.findIP()
	return r
}

func (r *Running) findIP() {
	r.node.t.Helper()
	st, err := r.node.PodSandboxStatus(r.node.t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: r.SandboxID})
	if err != nil {
		r.node.t.Fatal(err)
	}
	r.IP = st.GetStatus().GetNetwork().GetIp()
}

// Adopt is a pod that was made in another way than by Run.
func (n *Node) Adopt(p Pod, sandboxID, containerID string) *Running {
	n.t.Helper()
	r := &Running{node: n, pod: p, Config: n.SandboxConfig(p), SandboxID: sandboxID, ContainerID: containerID}
	r.findIP()
	return r
}

// Run runs a pod up to the start of its VM; the guest may still boot.
func (n *Node) Run(p Pod) *Running {
	n.t.Helper()
	r := n.RunSandbox(p)
	r.Create()
	r.Start()
	return r
}

// Create creates the pod's next container.
func (r *Running) Create() {
	r.node.t.Helper()
	if r.ContainerID != "" {
		r.ContainerAttempt++
	}
	c, err := r.node.CreateContainer(r.node.t.Context(), &runtimeapi.CreateContainerRequest{
		PodSandboxId: r.SandboxID, SandboxConfig: r.Config, Config: r.node.ContainerConfig(r.pod, r.ContainerAttempt),
	})
	if err != nil {
		r.node.t.Fatalf("create container of %s: %v", r.pod.Name, err)
	}
	r.ContainerID = c.GetContainerId()
}

// Start starts the pod's container.
func (r *Running) Start() {
	r.node.t.Helper()
	if _, err := r.node.StartContainer(r.node.t.Context(), &runtimeapi.StartContainerRequest{ContainerId: r.ContainerID}); err != nil {
		r.node.t.Fatalf("start container of %s: %v", r.pod.Name, err)
	}
}

var readyLine = regexp.MustCompile(`READY boot_id=([0-9a-f-]{36})`)

// WaitReady waits for the guest's READY line in the log and returns its boot ID.
func (r *Running) WaitReady() string {
	r.node.t.Helper()
	boots := r.WaitBoots(1)
	return boots[0]
}

// WaitBoots waits until the log tells of n boots and returns their boot IDs.
func (r *Running) WaitBoots(n int) []string {
	r.node.t.Helper()
	var ids []string
	r.node.Eventually(logPatience, func() error {
		ids = nil
		for _, m := range readyLine.FindAllStringSubmatch(r.Log(), -1) {
			ids = append(ids, m[1])
		}
		if len(ids) < n {
			return fmt.Errorf("%d of %d READY lines of %s; the log ends: %q", len(ids), n, r.pod.Name, tail(r.Log(), 300))
		}
		return nil
	})
	return ids
}

// HTTP fetches a page from the guest.
func (r *Running) HTTP(path string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(r.IP, "80")+path, nil)
	if err != nil {
		return "", err
	}
	// One connection a call: a kept one would outlive the VM.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close() //nolint:errcheck // read to its end
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", path, res.Status)
	}
	return strings.TrimSpace(string(body)), nil
}

// BootID asks the guest for its boot ID over its network.
func (r *Running) BootID() string {
	r.node.t.Helper()
	var id string
	r.node.Eventually(time.Minute, func() (err error) {
		id, err = r.HTTP("/boot-id")
		return err
	})
	return id
}

// Exec runs a command in the guest and returns its stdout; it must exit with 0.
func (r *Running) Exec(command ...string) string {
	r.node.t.Helper()
	out, err := r.TryExec(r.node.t.Context(), command...)
	if err != nil {
		r.node.t.Fatal(err)
	}
	return out
}

// TryExec runs a command in the guest and returns its stdout; an exit code that is not 0
// is an error.
func (r *Running) TryExec(ctx context.Context, command ...string) (string, error) {
	res, err := r.node.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: r.ContainerID, Cmd: command, Timeout: 60})
	if err != nil {
		return "", fmt.Errorf("exec %v: %w", command, err)
	}
	if res.GetExitCode() != 0 {
		return "", fmt.Errorf("exec %v: exit code %d: %s%s", command, res.GetExitCode(), res.GetStdout(), res.GetStderr())
	}
	return strings.TrimSpace(string(res.GetStdout())), nil
}

// ExecDetached runs a shell command in the guest that may end the guest; its result, and
// whether there is one, does not matter.
func (r *Running) ExecDetached(script string) {
	ctx, cancel := context.WithTimeout(r.node.t.Context(), 30*time.Second)
	defer cancel()
	_, err := r.node.ExecSync(ctx, &runtimeapi.ExecSyncRequest{
		ContainerId: r.ContainerID, Cmd: []string{"sh", "-c", "(sleep 0.2; " + script + ") >/dev/null 2>&1 </dev/null &"}, Timeout: 20,
	})
	if err != nil {
		r.node.t.Logf("exec of %q: %v", script, err)
	}
}

// Status is the present container's status.
func (r *Running) Status() *runtimeapi.ContainerStatus {
	r.node.t.Helper()
	return r.node.StatusOf(r.ContainerID)
}

// VerboseStatus is what the present container's status says when asked to be verbose.
func (r *Running) VerboseStatus() map[string]string {
	r.node.t.Helper()
	res, err := r.node.ContainerStatus(r.node.t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: r.ContainerID, Verbose: true})
	if err != nil {
		r.node.t.Fatal(err)
	}
	return res.GetInfo()
}

// StatusOf is the status of any container.
func (n *Node) StatusOf(containerID string) *runtimeapi.ContainerStatus {
	n.t.Helper()
	res, err := n.ContainerStatus(n.t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: containerID})
	if err != nil {
		n.t.Fatal(err)
	}
	return res.GetStatus()
}

// WaitExited waits until the present container has exited and returns its status.
func (r *Running) WaitExited() *runtimeapi.ContainerStatus {
	r.node.t.Helper()
	r.node.Eventually(2*time.Minute, func() error {
		if s := r.Status().GetState(); s != runtimeapi.ContainerState_CONTAINER_EXITED {
			return fmt.Errorf("container is %s", s)
		}
		return nil
	})
	return r.Status()
}

// DomainName is the libvirt name of the pod's domain.
func (r *Running) DomainName() string { return "vmlet-" + r.SandboxID[:12] }

// Remove removes the pod.
func (r *Running) Remove() {
	r.node.t.Helper()
	if _, err := r.node.RemovePodSandbox(r.node.t.Context(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: r.SandboxID}); err != nil {
		r.node.t.Fatal(err)
	}
}

// Eventually calls check until it returns nil, and fails the test with its last error.
// It is for things that have no event a client could wait for.
func (n *Node) Eventually(patience time.Duration, check func() error) {
	n.t.Helper()
	deadline := time.Now().Add(patience)
	// Who looks all the time takes from the guests what they need to get there.
	for wait := 20 * time.Millisecond; ; wait = min(wait*5/4, 200*time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("after %s: %v", patience, err)
		}
		time.Sleep(wait)
	}
}

// logPatience is enough for a guest that boots beside others under software emulation.
const logPatience = 5 * time.Minute

func tail(s string, n int) string { return s[max(0, len(s)-n):] }
