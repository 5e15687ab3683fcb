// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
	"github.com/vmlet/vmlet/tests/harness"
)

// watched is a watch under way.
type watched struct {
	t      *testing.T
	stream grpc.ServerStreamingClient[vmletv1.WatchResponse]
	token  string
}

func watch(t *testing.T, node *harness.Node, vm, token string) *watched {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	stream, err := node.VMs.Watch(ctx, &vmletv1.WatchRequest{Vm: vm, SinceToken: token})
	if err != nil {
		t.Fatal(err)
	}
	return &watched{t: t, stream: stream}
}

func (w *watched) next() *vmletv1.WatchResponse {
	w.t.Helper()
	m, err := w.stream.Recv()
	if err != nil {
		w.t.Fatal(err)
	}
	if m.GetToken() != "" {
		w.token = m.GetToken()
	}
	return m
}

// present reads up to where all was told, and returns what was told of a pod.
func (w *watched) present(pod string) *vmletv1.VMStatus {
	w.t.Helper()
	var is *vmletv1.VMStatus
	for {
		m := w.next()
		if m.GetSynced() != nil {
			return is
		}
		if m.GetPresent().GetPod() == pod {
			is = m.GetPresent()
		}
	}
}

// until reads up to an event of this kind, with nothing but agents that come and go before it, and returns it.
func (w *watched) until(kind string) *vmletv1.VMEvent {
	w.t.Helper()
	for {
		e := w.next().GetEvent()
		if e.GetKind() == kind && (kind != "agent-up" || e.GetAgent() == "vmlet-agent") {
			return e
		}
		if e != nil && !strings.HasPrefix(e.GetKind(), "agent-") {
			w.t.Fatalf("%v was told before %s", e, kind)
		}
	}
}

// cannot is why a VM, or for "" the host, cannot do things.
func cannot(t *testing.T, node *harness.Node, vm string) map[string]string {
	t.Helper()
	resp, err := node.VMs.Capabilities(t.Context(), &vmletv1.CapabilitiesRequest{Vm: vm})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, c := range resp.GetCapabilities() {
		if c.GetAvailable() != (c.GetWhyNot() == "") {
			t.Errorf("capability %v", c)
		}
		out[c.GetName()] = c.GetWhyNot()
	}
	return out
}

// TestALifeIsWatched: what a VM does is told as the guest and the host show it, by who did it, once it is on record; a client
// that comes back misses nothing, and is told where it would: after a kill -9 of vmlet.
func TestALifeIsWatched(t *testing.T) {
	node := harness.StartNode(t)
	all := watch(t, node, "", "")
	if is := all.present("watched"); is != nil {
		t.Errorf("told of %v before there was a pod", is)
	}
	pod := node.Run(harness.Pod{Name: "watched"})
	for _, kind := range []string{"absent", "created", "running"} {
		if e := all.until(kind); e.GetPodSandboxId() != pod.SandboxID || e.GetNamespace() != "test" || e.GetPod() != "watched" {
			t.Errorf("event %v", e)
		}
	}
	boot := pod.WaitReady()
	if e := all.until("agent-up"); e.GetBootId() != boot || e.GetContainerId() != pod.ContainerID {
		t.Errorf("the boot is %s; told was %v", boot, e)
	}
	one := watch(t, node, "test/watched", "")
	if is := one.present("watched"); is.GetState() != vmletv1.VMState_VM_STATE_RUNNING || is.GetBootId() != boot || !slices.Contains(is.GetAgents(), "vmlet-agent") {
		t.Errorf("the VM is told as %v", is)
	}

	// Pause.
	if why := cannot(t, node, pod.SandboxID)["exec"]; why != "" {
		t.Errorf("exec: %s", why)
	}
	if _, err := node.VMs.Pause(t.Context(), &vmletv1.PauseRequest{Vm: pod.SandboxID}); err != nil {
		t.Fatal(err)
	}
	one.until("paused")
	if state := harness.Virsh(t, "domstate", pod.DomainName()); state != "paused" {
		t.Errorf("the domain is %q", state)
	}
	if why := cannot(t, node, pod.SandboxID); !strings.Contains(why["exec"], "paused") || why["pause"] != "" {
		t.Errorf("a paused VM cannot, for %v", why)
	}
	if _, err := node.VMs.Resume(t.Context(), &vmletv1.ResumeRequest{Vm: pod.SandboxID}); err != nil {
		t.Fatal(err)
	}
	one.until("resumed")

	// A reboot that was asked for.
	did, err := reboot(t.Context(), node, pod.SandboxID, vmletv1.RebootMode_REBOOT_MODE_AGENT)
	if err != nil {
		t.Fatal(err)
	}
	one.until("rebooting")
	if e := one.until("rebooted"); e.GetBootId() != did.GetBootId() {
		t.Errorf("the boot is %s; told was %v", did.GetBootId(), e)
	}
	one.until("agent-up")
	pod.WaitBoots(2)

	// A reboot of the guest's own.
	pod.ExecDetached("reboot")
	boot = pod.WaitBoots(3)[2]
	if e := one.until("rebooted"); e.GetBootId() != boot {
		t.Errorf("the boot is %s; told was %v", boot, e)
	}
	one.until("agent-up")

	// A client that comes back.
	again := watch(t, node, "", all.token) // it has seen no more than the first boot
	for _, kind := range []string{"paused", "resumed", "rebooting", "rebooted", "rebooted"} {
		again.until(kind)
	}

	// vmlet is killed.
	node.Kill9()
	for {
		if _, err := all.stream.Recv(); err != nil {
			if status.Code(err) != codes.Unavailable {
				t.Errorf("the watch ended with %v", err)
			}
			break
		}
	}
	node.Start()
	_, err = watch(t, node, "", one.token).stream.Recv()
	if status.Code(err) != codes.OutOfRange || !strings.Contains(err.Error(), "watch anew without a token") {
		t.Errorf("a token of an earlier life: %v", err)
	}
	one = watch(t, node, pod.ContainerID, "")
	is := one.present("watched")
	if is.GetState() != vmletv1.VMState_VM_STATE_RUNNING {
		t.Errorf("the VM is told as %v", is)
	}
	if !slices.Contains(is.GetAgents(), "vmlet-agent") { // it has yet to answer anew
		if e := one.until("agent-up"); e.GetBootId() != boot {
			t.Errorf("the boot is %s; told was %v", boot, e)
		}
	}

	// The end, after libvirt had one of its own.
	harness.RestartLibvirtd(t)
	pod.ExecDetached("poweroff")
	if e := one.until("exited"); e.GetReason() != "Completed" || e.GetExitCode() != 0 {
		t.Errorf("told was %v", e)
	}
	if st := pod.Status(); st.GetState() != runtimeapi.ContainerState_CONTAINER_EXITED {
		t.Errorf("the container is %s", st.GetState())
	}
	if _, err := node.RemovePodSandbox(t.Context(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: pod.SandboxID}); err != nil {
		t.Fatal(err)
	}
	one.until("absent")
	one.until("removed")
	if _, err := one.stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the watch of what is gone ended with %v", err)
	}
}

// TestHostCapabilitiesAndLimits: what libvirt really says, the same by both APIs; a handler that nobody knows is refused;
// and one client's watches leave room for its calls.
func TestHostCapabilitiesAndLimits(t *testing.T) {
	node := harness.StartNode(t)
	node.Eventually(time.Minute, func() error { // libvirt may have to probe QEMU first
		resp, err := node.VMs.Capabilities(t.Context(), &vmletv1.CapabilitiesRequest{})
		if err == nil && len(resp.GetCapabilities()) == 0 {
			err = errors.New("there are none")
		}
		return err
	})
	why := cannot(t, node, "")
	if why["mounts.shares"] != "" || why["exec"] != "" || why["limits.update"] != "" {
		t.Errorf("the host cannot, for %v", why)
	}
	res, err := node.Status(t.Context(), &runtimeapi.StatusRequest{Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	var told []struct {
		Name   string `json:"name"`
		WhyNot string `json:"whyNot"`
	}
	if err := json.Unmarshal([]byte(res.GetInfo()["capabilities"]), &told); err != nil {
		t.Fatal(err)
	}
	if len(told) != len(why) {
		t.Errorf("Status tells of %d, Capabilities of %d", len(told), len(why))
	}
	for _, c := range told {
		if why[c.Name] != c.WhyNot {
			t.Errorf("Status says of %s %q, Capabilities %q", c.Name, c.WhyNot, why[c.Name])
		}
	}
	_, err = node.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{
		Config: node.SandboxConfig(harness.Pod{Name: "stranger"}), RuntimeHandler: "stranger",
	})
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), `"stranger" is unknown`) {
		t.Errorf("an unknown handler: %v", err)
	}

	const most = 1024
	for range most {
		watch(t, node, "", "").next()
	}
	if _, err := watch(t, node, "", "").stream.Recv(); status.Code(err) != codes.ResourceExhausted ||
		!strings.Contains(err.Error(), fmt.Sprintf("%d streams", most)) || !strings.Contains(err.Error(), "listen.streamsPerClient") {
		t.Errorf("one more watch: %v", err)
	}
	if _, err := node.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{}); err != nil {
		t.Errorf("a call beside them: %v", err)
	}
}
