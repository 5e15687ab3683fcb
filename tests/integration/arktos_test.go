// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
	"github.com/vmlet/vmlet/tests/harness"
)

// arktosWalk is a VM pod as the Arktos node agent has it.
type arktosWalk struct {
	*testing.T
	node   *harness.Node
	cri    nodeAgent
	config *arktosv1alpha2.PodSandboxConfig
	// args is where the CNI plugin writes what it is called with.
	args string

	image string
	pod   *harness.Running // by runtime.v1
	boot  string
}

// writeRecorder makes a CNI plugin that is the bridge, and writes down how it was called.
func (w *arktosWalk) writeRecorder() {
	w.args = filepath.Join(w.node.RunDir, "cni-args")
	dir := filepath.Join(w.node.RunDir, "plugins")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		w.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\nprintf '%%s %%s %%s\\n' \"$CNI_COMMAND\" \"$CNI_IFNAME\" \"$CNI_ARGS\" >>%s\nexec %s/bridge\n", w.args, harness.Bin("cni"))
	if err := os.WriteFile(filepath.Join(dir, "recorder"), []byte(script), 0o755); err != nil {
		w.Fatal(err)
	}
	w.node.WriteCNI(fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "vpcs", "plugins": [{"type": "recorder", "bridge": %q, "isGateway": true,
   "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.79.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}`,
		w.node.Bridge(), w.node.Leases))
}

// called are the arguments of the plugin's calls of one kind for one interface.
func (w *arktosWalk) called(command, ifName string) (args []string) {
	w.Helper()
	text, err := os.ReadFile(w.args)
	if err != nil {
		w.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if found, is := strings.CutPrefix(strings.TrimSpace(line), command+" "+ifName+" "); is {
			args = append(args, found)
		}
	}
	return args
}

// call makes a call as the node agent does. What is not done by its deadline is to be found by what comes next.
func call[Q, R any](w *arktosWalk, do func(context.Context, Q, ...grpc.CallOption) (R, error), req Q) R {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), nodeAgentPatience)
	defer cancel()
	resp, err := do(ctx, req)
	if err != nil && status.Code(err) != codes.DeadlineExceeded {
		w.Fatalf("%T: %v", req, err)
	}
	return resp
}

// nicsAre proves what the pod's status and the list of its NICs tell.
func (w *arktosWalk) nicsAre(want ...string) {
	w.Helper()
	w.node.Eventually(time.Minute, func() error {
		var got, listed []string
		st := call(w, w.cri.PodSandboxStatus, &arktosv1alpha2.PodSandboxStatusRequest{PodSandboxId: w.pod.SandboxID})
		for _, n := range st.GetStatus().GetNetwork().GetNics() {
			got = append(got, n.GetName()+" "+n.GetPortId()+" "+n.GetState().String())
		}
		for _, n := range call(w, w.cri.ListNetworkInterfaces, &arktosv1alpha2.ListDeviceRequest{PodSandboxId: "db"}).GetNics() {
			listed = append(listed, n.GetName()+" "+n.GetPortId()+" NIC_READY")
		}
		if !slices.Equal(got, want) || !slices.Equal(listed, want) || st.GetStatus().GetNetwork().GetIp() == "" {
			return fmt.Errorf("NICs are %v, listed %v", got, listed)
		}
		return nil
	})
}

// guestHas proves that the guest and the host's machine have these NICs.
func (w *arktosWalk) guestHas(names ...string) {
	w.Helper()
	w.node.Eventually(time.Minute, func() error {
		links, err := w.pod.TryExec(w.Context(), "ls", "/sys/class/net")
		if err != nil {
			return err
		}
		got := slices.DeleteFunc(strings.Fields(links), func(n string) bool { return !strings.HasPrefix(n, "eth") })
		if taps := strings.Count(harness.Virsh(w.T, "domiflist", w.pod.DomainName()), "vml"); !slices.Equal(got, names) || taps != len(names) {
			return fmt.Errorf("the guest has %v, the machine %d taps", got, taps)
		}
		return nil
	})
}

// runs proves that the container is RUNNING by both APIs.
func (w *arktosWalk) runs() {
	w.Helper()
	st := call(w, w.cri.ContainerStatus, &arktosv1alpha2.ContainerStatusRequest{ContainerId: w.pod.ContainerID}).GetStatus()
	if old := w.pod.Status().GetState().String(); st.GetState().String() != "CONTAINER_RUNNING" || old != "CONTAINER_RUNNING" {
		w.Errorf("the container is %s, by runtime.v1 %s", st.GetState(), old)
	}
}

func (w *arktosWalk) memory() int64 {
	w.Helper()
	kib, err := strconv.ParseInt(w.pod.Exec("awk", "/^MemTotal:/ { print $2 }", "/proc/meminfo"), 10, 64)
	if err != nil {
		w.Fatal(err)
	}
	return kib >> 10
}

func (*arktosWalk) limits(memory int64) *arktosv1alpha2.LinuxContainerResources {
	return &arktosv1alpha2.LinuxContainerResources{CpuPeriod: 100000, CpuQuota: 100000, CpuShares: 512, MemoryLimitInBytes: memory, OomScoreAdj: 900}
}

// inSeed is what cloud-init reads as user-data, by the disk that the guest has.
func (w *arktosWalk) inSeed() string {
	w.Helper()
	return w.pod.Exec("sh", "-c", "mkdir -p /tmp/seed && mount -t iso9660 -o ro /dev/vdb /tmp/seed && cat /tmp/seed/user-data | od -An -tx1; umount /tmp/seed")
}

func (*arktosWalk) device(name, port string) *arktosv1alpha2.DeviceAttachDetachRequest {
	return &arktosv1alpha2.DeviceAttachDetachRequest{PodSandboxID: "db", Nic: &arktosv1alpha2.NicSpec{Name: name, PortId: port}}
}

// TestArktosWalk: a VM pod lives as with the Arktos node agent, and vmlet is killed and started again between every two steps.
func TestArktosWalk(t *testing.T) {
	node := harness.StartNode(t)
	w := &arktosWalk{T: t, node: node, cri: newNodeAgent(t, node)}
	w.writeRecorder()
	w.config = &arktosv1alpha2.PodSandboxConfig{
		Metadata: &arktosv1alpha2.PodSandboxMetadata{Name: "db", Uid: "uid-db", Namespace: "test", Tenant: "acme"}, Hostname: "db",
		LogDirectory: filepath.Join(node.LogDir(), "db"), Linux: &arktosv1alpha2.LinuxPodSandboxConfig{},
		Labels: map[string]string{"io.kubernetes.pod.uid": "uid-db", "io.kubernetes.pod.tenant": "acme"},
		Annotations: map[string][]byte{
			"VirtletRootVolumeSize": []byte("1Gi"), "VirtletVCPUCount": []byte("1"), "vmlet.io/max-memory": []byte("512Mi"),
			"VirtletCloudInitUserData": {0x1f, 0x8b, 0xff, 0xfe}, "VPC": []byte("vpc-1"),
			"arktos.futurewei.com/cni-args": []byte("zone=a"),
			"NICs":                          []byte(`[{"name":"eth0","portId":"p0"},{"name":"eth1","portId":"p1"}]`),
		},
	}
	for _, step := range []struct {
		name string
		do   func(*arktosWalk)
	}{
		{"the pod gets its network", (*arktosWalk).runSandbox}, {"its image is pulled", (*arktosWalk).pull},
		{"its VM is made", (*arktosWalk).create}, {"its VM boots", (*arktosWalk).start}, {"it is probed", (*arktosWalk).probe},
		{"a NIC is attached", (*arktosWalk).attach}, {"a snapshot is taken", (*arktosWalk).snapshot}, {"it is rebooted", (*arktosWalk).reboot},
		{"it is put back", (*arktosWalk).restore}, {"it grows", (*arktosWalk).resize}, {"a NIC is detached", (*arktosWalk).detach},
		{"it is stopped", (*arktosWalk).stop}, {"it is collected", (*arktosWalk).collect},
	} {
		ok := t.Run(step.name, func(t *testing.T) {
			w.T = t
			step.do(w)
		})
		if w.T = t; !ok {
			return
		}
		node.Kill9()
		node.Start()
	}
}

func (w *arktosWalk) runSandbox() {
	w.pod = &harness.Running{SandboxID: call(w, w.cri.RunPodSandbox, &arktosv1alpha2.RunPodSandboxRequest{Config: w.config}).GetPodSandboxId()}
	w.nicsAre("eth0 p0 NIC_READY", "eth1 p1 NIC_READY")
	const who = ";K8S_POD_TENANT=acme;"
	first, second := w.called("ADD", "eth0"), w.called("ADD", "eth1")
	if len(first) != 1 || !strings.Contains(first[0]+";", `;NICs=[{"name":"eth0","portId":"p0"},{"name":"eth1","portId":"p1"}];VPC=vpc-1;`) || !strings.Contains(first[0], who) || !strings.Contains(first[0]+";", ";zone=a;") {
		w.Errorf("the pod's ADD had %v", first)
	}
	if len(second) != 1 || !strings.Contains(second[0]+";", `;NICs=[{"name":"eth1","portId":"p1"}];`) || !strings.Contains(second[0], who) || !strings.Contains(second[0], ";VPC=vpc-1;") {
		w.Errorf("the second ADD had %v", second)
	}
}

func (w *arktosWalk) pull() {
	image := &arktosv1alpha2.ImageSpec{Image: harness.TinyImage()}
	if st := call(w, w.cri.images.ImageStatus, &arktosv1alpha2.ImageStatusRequest{Image: image}); st.GetImage() == nil {
		w.image = call(w, w.cri.images.PullImage, &arktosv1alpha2.PullImageRequest{Image: image, SandboxConfig: w.config}).GetImageRef()
	}
	st := call(w, w.cri.images.ImageStatus, &arktosv1alpha2.ImageStatusRequest{Image: image}).GetImage()
	if w.image == "" {
		w.image = st.GetId()
	}
	if st.GetId() != w.image || st.GetSize() == 0 {
		w.Errorf("%v is not %s", st, w.image)
	}
}

func (w *arktosWalk) create() {
	created := call(w, w.cri.CreateContainer, &arktosv1alpha2.CreateContainerRequest{
		PodSandboxId: w.pod.SandboxID, SandboxConfig: w.config, Config: &arktosv1alpha2.ContainerConfig{
			Metadata: &arktosv1alpha2.ContainerMetadata{Name: "vm"}, Image: &arktosv1alpha2.ImageSpec{Image: w.image}, Stdin: true, Tty: true, LogPath: "vm/0.log",
			Annotations: map[string]string{"io.kubernetes.container.hash": "a1b2"},
			Linux:       &arktosv1alpha2.LinuxContainerConfig{Resources: w.limits(328 * mib)},
		},
	})
	w.pod = w.node.Adopt(harness.Pod{Name: "db"}, w.pod.SandboxID, created.GetContainerId())
}

func (w *arktosWalk) start() {
	call(w, w.cri.StartContainer, &arktosv1alpha2.StartContainerRequest{ContainerId: w.pod.ContainerID})
	w.boot = w.pod.WaitReady()
	w.runs()
	w.guestHas("eth0", "eth1")
	if seed := w.inSeed(); strings.Join(strings.Fields(seed), "") != "1f8bfffe" {
		w.Errorf("the guest's user-data is %s", seed)
	}
}

func (w *arktosWalk) probe() {
	got := call(w, w.cri.ExecSync, &arktosv1alpha2.ExecSyncRequest{ContainerId: w.pod.ContainerID, Cmd: []string{"cat", "/proc/sys/kernel/random/boot_id"}, Timeout: 10})
	if strings.TrimSpace(string(got.GetStdout())) != w.boot {
		w.Errorf("the guest says %v, its console %s", got, w.boot)
	}
	w.node.Eventually(time.Minute, func() error {
		stats := call(w, w.cri.ListContainerStats, &arktosv1alpha2.ListContainerStatsRequest{}).GetStats()
		if len(stats) != 1 || stats[0].GetCpu().GetUsageCoreNanoSeconds().GetValue() == 0 || stats[0].GetMemory().GetWorkingSetBytes().GetValue() == 0 {
			return fmt.Errorf("statistics are %v", stats)
		}
		return nil
	})
	list := call(w, w.cri.ListPodSandbox, &arktosv1alpha2.ListPodSandboxRequest{}).GetItems()
	if len(list) != 1 || list[0].GetMetadata().GetTenant() != "acme" || string(list[0].GetAnnotations()["VirtletCloudInitUserData"]) != "\x1f\x8b\xff\xfe" {
		w.Errorf("%v", list)
	}
	if _, err := os.Stat(filepath.Join(w.config.GetLogDirectory(), "vm/0.log")); err != nil {
		w.Error(err)
	}
	out, err := exec.CommandContext(w.Context(), harness.Bin("vmletctl"), "--address", w.node.Socket(), "inspect", "acme/test/db").CombinedOutput()
	for _, said := range []string{"acme", "vpc-1", "eth1"} {
		if err != nil || !strings.Contains(string(out), said) {
			w.Errorf("vmletctl does not say %s: %s, %v", said, out, err)
		}
	}
}

func (w *arktosWalk) attach() {
	call(w, w.cri.AttachNetworkInterface, w.device("eth2", "p2"))
	w.nicsAre("eth0 p0 NIC_READY", "eth1 p1 NIC_READY", "eth2 p2 NIC_READY")
	w.guestHas("eth0", "eth1", "eth2")
}

func (w *arktosWalk) snapshot() {
	w.pod.Exec("sh", "-c", "echo before >/tmp/in-memory && echo before >/on-disk && sync")
	call(w, w.cri.CreateSnapshot, &arktosv1alpha2.CreateSnapshotRequest{VmID: w.pod.ContainerID, SnapshotID: "before"})
	w.runs()
}

func (w *arktosWalk) reboot() {
	w.pod.Exec("sh", "-c", "echo after >/on-disk && sync")
	call(w, w.cri.RebootVM, &arktosv1alpha2.RebootVMRequest{VmId: w.pod.ContainerID})
	if boots := w.pod.WaitBoots(2); boots[1] == w.boot {
		w.Errorf("it is the same boot: %v", boots)
	}
	w.runs()
	w.guestHas("eth0", "eth1", "eth2")
}

func (w *arktosWalk) restore() {
	call(w, w.cri.RestoreToSnapshot, &arktosv1alpha2.RestoreToSnapshotRequest{VmID: w.pod.ContainerID, SnapshotID: "before"})
	w.node.Eventually(time.Minute, func() error {
		boot, err := w.pod.TryExec(w.Context(), "cat", "/proc/sys/kernel/random/boot_id", "/tmp/in-memory", "/on-disk")
		if err != nil || boot != w.boot+strings.Repeat("\nbefore", 2) {
			return fmt.Errorf("the guest says %q, %w; its boot was %s", boot, err, w.boot)
		}
		return nil
	})
	w.runs()
	w.guestHas("eth0", "eth1", "eth2")
}

func (w *arktosWalk) resize() {
	was := w.memory()
	call(w, w.cri.UpdateContainerResources, &arktosv1alpha2.UpdateContainerResourcesRequest{ContainerId: w.pod.ContainerID, Linux: w.limits(456 * mib)})
	w.node.Eventually(time.Minute, func() error {
		st := call(w, w.cri.ContainerStatus, &arktosv1alpha2.ContainerStatusRequest{ContainerId: w.pod.ContainerID}).GetStatus()
		if is := w.memory(); is < was+100 || st.GetResources().GetMemoryLimitInBytes() != 456*mib || st.GetResources().GetCpuQuota() != 100000 {
			return fmt.Errorf("the guest has %d MiB, had %d; its limits are %v", is, was, st.GetResources())
		}
		return nil
	})
}

func (w *arktosWalk) detach() {
	call(w, w.cri.DetachNetworkInterface, w.device("eth2", ""))
	w.nicsAre("eth0 p0 NIC_READY", "eth1 p1 NIC_READY")
	w.guestHas("eth0", "eth1")
	if added, gone := w.called("ADD", "eth2"), w.called("DEL", "eth2"); len(added) != 1 || len(gone) == 0 || gone[len(gone)-1] != added[0] {
		w.Errorf("ADD had %v, DEL %v", added, gone)
	}
}

// stop is what the node agent does when the pod has left the node: its sandbox first, its container two seconds later.
func (w *arktosWalk) stop() {
	call(w, w.cri.StopPodSandbox, &arktosv1alpha2.StopPodSandboxRequest{PodSandboxId: w.pod.SandboxID})
	call(w, w.cri.StopContainer, &arktosv1alpha2.StopContainerRequest{ContainerId: w.pod.ContainerID, Timeout: 2})
	st := call(w, w.cri.ContainerStatus, &arktosv1alpha2.ContainerStatusRequest{ContainerId: w.pod.ContainerID}).GetStatus()
	if st.GetState() != arktosv1alpha2.ContainerState_CONTAINER_EXITED {
		w.Errorf("the container is %s", st.GetState())
	}
	for _, nic := range []string{"eth0", "eth1"} {
		if added, gone := w.called("ADD", nic), w.called("DEL", nic); len(gone) == 0 || gone[len(gone)-1] != added[0] {
			w.Errorf("ADD of %s had %v, DEL %v", nic, added, gone)
		}
	}
}

func (w *arktosWalk) collect() {
	call(w, w.cri.RemoveContainer, &arktosv1alpha2.RemoveContainerRequest{ContainerId: w.pod.ContainerID})
	call(w, w.cri.StopPodSandbox, &arktosv1alpha2.StopPodSandboxRequest{PodSandboxId: w.pod.SandboxID})
	call(w, w.cri.RemovePodSandbox, &arktosv1alpha2.RemovePodSandboxRequest{PodSandboxId: w.pod.SandboxID})
	list := call(w, w.cri.ListPodSandbox, &arktosv1alpha2.ListPodSandboxRequest{}).GetItems()
	if domains := harness.Virsh(w.T, "list", "--all", "--name"); len(list) > 0 || strings.Contains(domains, w.pod.DomainName()) {
		w.Errorf("%v and %s are left", list, domains)
	}
}

// TestArktosPodKilledAtEveryStep: vmlet is killed at each failpoint that a sandbox with two NICs and its container pass. The
// calls are repeated, as the node agent does, and the pod has what its spec says; nothing is left of it in the end. The network
// has IPv4 and IPv6, and the second address is no NIC.
func TestArktosPodKilledAtEveryStep(t *testing.T) {
	k := newKiller(t)
	node := harness.StartNode(t, k.watched())
	k.node = node
	w := &arktosWalk{T: t, node: node, cri: newNodeAgent(t, node)}
	node.Pull(harness.TinyImage())
	life := func(name string, k *killer) {
		t.Helper()
		config := &arktosv1alpha2.PodSandboxConfig{
			Metadata: &arktosv1alpha2.PodSandboxMetadata{Name: name, Uid: "uid-" + name, Namespace: "test", Tenant: "acme"}, Hostname: "db",
			Annotations: map[string][]byte{"NICs": []byte(`[{"name":"eth0","portId":"p0"},{"name":"eth1","portId":"p1"}]`)},
		}
		var sandbox string
		again := repeated(t, name, k)
		again("run sandbox", func(ctx context.Context) error {
			r, err := w.cri.RunPodSandbox(ctx, &arktosv1alpha2.RunPodSandboxRequest{Config: config})
			sandbox = r.GetPodSandboxId()
			return err
		})
		again("create container", func(ctx context.Context) error {
			_, err := w.cri.CreateContainer(ctx, &arktosv1alpha2.CreateContainerRequest{
				PodSandboxId: sandbox, SandboxConfig: config, Config: &arktosv1alpha2.ContainerConfig{
					Metadata: &arktosv1alpha2.ContainerMetadata{Name: "vm"}, Image: &arktosv1alpha2.ImageSpec{Image: harness.TinyImage()},
				},
			})
			return err
		})
		st, err := w.cri.PodSandboxStatus(t.Context(), &arktosv1alpha2.PodSandboxStatusRequest{PodSandboxId: sandbox})
		if nics := st.GetStatus().GetNetwork().GetNics(); err != nil || len(nics) != 2 || nics[0].GetName() != "eth0" || nics[1].GetName() != "eth1" {
			t.Errorf("%s: NICs %v, %v", name, nics, err)
		}
		again("remove sandbox", func(ctx context.Context) error {
			_, err := w.cri.RemovePodSandbox(ctx, &arktosv1alpha2.RemovePodSandboxRequest{PodSandboxId: sandbox})
			return err
		})
		left, err := filepath.Glob(filepath.Join(node.Leases, "*", "[0-9f]*"))
		attachments, globErr := filepath.Glob(filepath.Join(node.LibDir, "node/cni/attachments/*"))
		list, listErr := w.cri.ListPodSandbox(t.Context(), &arktosv1alpha2.ListPodSandboxRequest{})
		if err := errors.Join(err, globErr, listErr); err != nil || len(left)+len(attachments)+len(list.GetItems()) > 0 {
			t.Errorf("%s: left are %v, %v, %v; %v", name, left, attachments, list, err)
		}
	}
	marks := k.passes(20, func() { life("recorded", nil) })
	if !slices.ContainsFunc(marks, func(m string) bool { return strings.Contains(m, "NIC") }) {
		t.Fatalf("it passed only the failpoints %v", marks)
	}
	for i := range marks {
		k.arm(marks, i)
		life(fmt.Sprintf("victim-%d", i), k)
		k.mustHaveDied(marks, i)
	}
	t.Logf("%d failpoints, each survived", len(marks))
}
