// SPDX-License-Identifier: Apache-2.0

package arktos_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
)

func ready(name, port string) *arktosv1alpha2.NICStatus {
	return &arktosv1alpha2.NICStatus{Name: name, PortId: port, State: arktosv1alpha2.NICState_NIC_READY, Reason: "Attached"}
}

func (w *world) hasNICs(sandbox string, want ...*arktosv1alpha2.NICStatus) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.podStatus(sandbox).GetNetwork().GetNics(), protocmp.Transform()); diff != "" {
		w.t.Error(diff)
	}
}

func device(pod, name, port string) *arktosv1alpha2.DeviceAttachDetachRequest {
	return &arktosv1alpha2.DeviceAttachDetachRequest{PodSandboxID: pod, Nic: &arktosv1alpha2.NicSpec{Name: name, PortId: port}}
}

// The pod's spec has two NICs, and the network gives one: the other is attached before the sandbox is told of.
func TestNICsOfTheSpecAreThereFromTheStart(t *testing.T) {
	w := newWorld(t)
	config := podConfig("acme")
	sandbox := w.sandbox(config)
	w.hasNICs(sandbox, ready("eth0", "p0"), ready("eth1", "p1"))
	sb, err := w.svc.Sandbox(sandbox)
	if err != nil {
		t.Fatal(err)
	}
	want := vm.NICSpec{
		Name: "eth1", PortID: "p1", Subnet: "s1", Tag: "t1", VPC: "vpc-1",
		Args: map[string]string{"NICs": `[{"name":"eth1","subnetName":"s1","portId":"p1","tag":"t1"}]`},
	}
	if diff := cmp.Diff(want, sb.Status.NICs[0].Spec); diff != "" {
		t.Error(diff)
	}
	// The node agent's own words for it, without tag, find it there.
	if _, err := w.AttachNetworkInterface(t.Context(), device("db", "eth1", "p1")); err != nil {
		t.Error(err)
	}
	_, err = w.AttachNetworkInterface(t.Context(), device("db", "eth1", "p2"))
	w.is(codes.AlreadyExists, err)
}

// A VM that is made anew in an old sandbox gets what its pod has by now.
func TestAContainerGetsTheNICsOfToday(t *testing.T) {
	w := newWorld(t)
	config := podConfig("acme")
	sandbox := w.sandbox(config)
	config.Annotations["NICs"] = []byte(`[{"name":"eth0","portId":"p0"},{"name":"eth2","portId":"p2"}]`)
	w.create(sandbox, 0, config)
	w.hasNICs(sandbox, ready("eth0", "p0"), ready("eth1", "p1"), ready("eth2", "p2"))
	for name, value := range map[string]string{"NICs": "[{\"name\":\"eth3\",\"tag\":\"\xff\"}]", "VPC": "\xff"} {
		config := podConfig("acme")
		config.Annotations["NICs"] = []byte(`[{"name":"eth3"}]`)
		config.Annotations[name] = []byte(value)
		_, err := w.CreateContainer(t.Context(), &arktosv1alpha2.CreateContainerRequest{PodSandboxId: sandbox, Config: containerConfig(1), SandboxConfig: config})
		w.is(codes.InvalidArgument, err)
	}
}

// Nothing is left of a pod that did not get a NIC.
func TestASandboxWithoutItsNICsIsTakenBack(t *testing.T) {
	w := newWorld(t)
	w.network.FailNext("AttachNIC", errors.New("no port p1"))
	_, err := w.RunPodSandbox(t.Context(), &arktosv1alpha2.RunPodSandboxRequest{Config: podConfig("acme")})
	if err == nil || !strings.Contains(err.Error(), "no port p1") || len(w.svc.Sandboxes()) > 0 {
		t.Errorf("%v, and there are %d sandboxes", err, len(w.svc.Sandboxes()))
	}
	config := podConfig("acme")
	config.Annotations["NICs"] = []byte(`[{"name":"eth0","ipAddress":"192.0.2.77"}]`)
	w.network.GiveOwn(true)
	_, err = w.RunPodSandbox(t.Context(), &arktosv1alpha2.RunPodSandboxRequest{Config: config})
	w.is(codes.FailedPrecondition, err)
	if len(w.svc.Sandboxes()) > 0 {
		t.Error("a sandbox with another address than was asked for is there")
	}
	w.network.GiveOwn(false)
	if got := w.podStatus(w.sandbox(config)); got.GetNetwork().GetIp() != "192.0.2.77" {
		t.Errorf("%v", got)
	}
}

func TestNICsComeAndGoByThePodsName(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	sandbox, _ := w.running(podConfig("acme"))
	for range 2 { // the second finds it there
		if _, err := w.AttachNetworkInterface(ctx, device("db", "eth2", "p2")); err != nil {
			t.Fatal(err)
		}
	}
	w.hasNICs(sandbox, ready("eth0", "p0"), ready("eth1", "p1"), ready("eth2", "p2"))
	// What another API attached is not the pod's: the node agent would have it detached.
	if _, err := w.svc.AttachNIC(ctx, sandbox, vm.NICSpec{Name: "eth3"}, nil); err != nil {
		t.Fatal(err)
	}
	w.hasNICs(sandbox, ready("eth0", "p0"), ready("eth1", "p1"), ready("eth2", "p2"))
	list := must[*arktosv1alpha2.ListDeviceResponse](t)(w.ListNetworkInterfaces(ctx, &arktosv1alpha2.ListDeviceRequest{PodSandboxId: "db"})).GetNics()
	one := must[*arktosv1alpha2.ListDeviceResponse](t)(w.ListNetworkInterfaces(ctx, &arktosv1alpha2.ListDeviceRequest{PodSandboxId: sandbox, VmName: "vm", NicName: "eth1"})).GetNics()
	if len(list) != 3 || list[0].GetIpAddress() == "" || len(one) != 1 || one[0].GetPortId() != "p1" || one[0].GetVPC() != "vpc-1" {
		t.Errorf("%v, %v", list, one)
	}
	for range 2 {
		if _, err := w.DetachNetworkInterface(ctx, device("db", "eth2", "")); err != nil {
			t.Fatal(err)
		}
	}
	w.hasNICs(sandbox, ready("eth0", "p0"), ready("eth1", "p1"))
	for what, req := range map[string]*arktosv1alpha2.DeviceAttachDetachRequest{"no pod": device("", "eth2", ""), "no NIC": device("db", "", "")} {
		if _, err := w.AttachNetworkInterface(ctx, req); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := w.DetachNetworkInterface(ctx, req); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := w.ListNetworkInterfaces(ctx, &arktosv1alpha2.ListDeviceRequest{PodSandboxId: "db", VmName: "other"})
	w.is(codes.NotFound, err)
	_, err = w.AttachNetworkInterface(ctx, device("nobody", "eth2", ""))
	w.is(codes.NotFound, err)
}

// The name of a pod is not enough where namespaces or tenants have one each.
func TestANameOfSeveralPodsIsRefusedWithAll(t *testing.T) {
	w := newWorld(t)
	acme, evil := w.sandbox(podConfig("acme")), w.sandbox(podConfig("evil"))
	_, err := w.AttachNetworkInterface(t.Context(), device("db", "eth2", "p2"))
	w.is(codes.InvalidArgument, err)
	for _, candidate := range []string{"acme/default/db (" + acme + ")", "evil/default/db (" + evil + ")"} {
		if err != nil && !strings.Contains(err.Error(), candidate) {
			t.Errorf("%s is not in %v", candidate, err)
		}
	}
	for _, ref := range []string{"evil/default/db", evil} {
		if _, err := w.AttachNetworkInterface(t.Context(), device(ref, "eth2", "p2")); err != nil {
			t.Errorf("%s: %v", ref, err)
		}
	}
	w.hasNICs(acme, ready("eth0", "p0"), ready("eth1", "p1"))
	w.hasNICs(evil, ready("eth0", "p0"), ready("eth1", "p1"), ready("eth2", "p2"))
	// One that was stopped does not stand in the way.
	if err := w.svc.StopSandbox(t.Context(), evil); err != nil {
		t.Fatal(err)
	}
	if _, err := w.AttachNetworkInterface(t.Context(), device("db", "eth2", "p2")); err != nil {
		t.Error(err)
	}
}

// The node agent waits 15 s. What takes longer is done all the same, and in the next list.
func TestWorkGoesOnWhenTheDeadlineIsOver(t *testing.T) {
	w := newWorld(t)
	sandbox, _ := w.running(podConfig("acme"))
	release := w.network.Block("AttachNIC")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := w.AttachNetworkInterface(ctx, device("db", "eth2", "p2"))
	w.is(codes.DeadlineExceeded, err)
	w.hasNICs(sandbox, ready("eth0", "p0"), ready("eth1", "p1"),
		&arktosv1alpha2.NICStatus{Name: "eth2", PortId: "p2", State: arktosv1alpha2.NICState_NIC_INPROGRESS, Reason: "Attaching"})
	release()
	if _, err := w.AttachNetworkInterface(t.Context(), device("db", "eth2", "p2")); err != nil {
		t.Error(err)
	}
	w.hasNICs(sandbox, ready("eth0", "p0"), ready("eth1", "p1"), ready("eth2", "p2"))
}

func TestRebootKeepsTheContainerRunning(t *testing.T) {
	w := newWorld(t)
	_, container := w.running(podConfig("acme"))
	for _, spec := range []*arktosv1alpha2.VmRebootSpec{nil, {DelayInSeconds: 1, DomainRebootFlag: 2}} {
		if _, err := w.RebootVM(t.Context(), &arktosv1alpha2.RebootVMRequest{VmId: container, RebootSpec: spec}); err != nil {
			t.Errorf("%v: %v", spec, err)
		}
		w.runs(container)
	}
	for what, req := range map[string]*arktosv1alpha2.RebootVMRequest{
		"no VM":    {},
		"the past": {VmId: container, RebootSpec: &arktosv1alpha2.VmRebootSpec{DelayInSeconds: -1}},
		"never":    {VmId: container, RebootSpec: &arktosv1alpha2.VmRebootSpec{DelayInSeconds: 9223372036}},
		"initctl":  {VmId: container, RebootSpec: &arktosv1alpha2.VmRebootSpec{DomainRebootFlag: 4}},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if _, err := w.RebootVM(ctx, req); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", what, err)
		}
		cancel()
	}
	_, err := w.RebootVM(t.Context(), &arktosv1alpha2.RebootVMRequest{VmId: strings.Repeat("f", 32)})
	w.is(codes.NotFound, err)
}

func TestSnapshotsKeepTheContainerRunning(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	sandbox, container := w.running(podConfig("acme"))
	take := func(name string, flags int64) error {
		_, err := w.CreateSnapshot(ctx, &arktosv1alpha2.CreateSnapshotRequest{VmID: container, SnapshotID: name, Flags: flags})
		return err
	}
	back := func(name string, flags int64) error {
		_, err := w.RestoreToSnapshot(ctx, &arktosv1alpha2.RestoreToSnapshotRequest{VmID: container, SnapshotID: name, Flags: flags})
		return err
	}
	w.is(codes.OK, take("before-upgrade", 0))
	w.is(codes.AlreadyExists, take("before-upgrade", 0))
	if all, err := w.svc.Snapshots(ctx, sandbox); err != nil || len(all) != 1 || all[0].Name != "before-upgrade" || all[0].Memory == nil {
		t.Errorf("%+v, %v", all, err)
	}
	w.is(codes.OK, back("before-upgrade", 0))
	w.runs(container)
	w.is(codes.NotFound, back("other", 0))
	for _, name := range []string{"", "a;b", "a<b", "a/b", `a"b`} {
		w.is(codes.InvalidArgument, take(name, 0))
		w.is(codes.InvalidArgument, back(name, 0))
	}
	w.is(codes.InvalidArgument, take("c", 1))
	w.is(codes.InvalidArgument, back("before-upgrade", 1))
	container = ""
	w.is(codes.InvalidArgument, take("c", 0))
	w.is(codes.InvalidArgument, back("c", 0))
}

// The node agent may know a container that was: its VM is the one that runs in the sandbox now, and has a memory.
func TestASnapshotByTheContainerThatWas(t *testing.T) {
	w := newWorld(t)
	config := podConfig("acme")
	sandbox, was := w.running(config)
	must[*arktosv1alpha2.StopContainerResponse](t)(w.StopContainer(t.Context(), &arktosv1alpha2.StopContainerRequest{ContainerId: was}))
	w.start(w.create(sandbox, 1, config))
	must[*arktosv1alpha2.CreateSnapshotResponse](t)(w.CreateSnapshot(t.Context(), &arktosv1alpha2.CreateSnapshotRequest{VmID: was, SnapshotID: "now"}))
	if all, err := w.svc.Snapshots(t.Context(), sandbox); err != nil || len(all) != 1 || all[0].Memory == nil {
		t.Errorf("%+v, %v", all, err)
	}
}

// In runtime.v1 the network's field 2 is further addresses, which would be read as NICs of that name.
func TestAnotherAddressIsNoNIC(t *testing.T) {
	w := newWorld(t)
	w.network.AddAddress("fd00::7/64")
	config := podConfig("acme")
	delete(config.GetAnnotations(), "NICs")
	sandbox := w.sandbox(config)
	if old, err := w.v1.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: sandbox}); err != nil || len(old.GetStatus().GetNetwork().GetAdditionalIps()) != 1 {
		t.Fatalf("%v, %v", old, err)
	}
	resp := must[*arktosv1alpha2.PodSandboxStatusResponse](t)(w.PodSandboxStatus(t.Context(), &arktosv1alpha2.PodSandboxStatusRequest{PodSandboxId: sandbox}))
	if got := resp.GetStatus().GetNetwork(); len(got.GetNics()) > 0 || got.GetIp() == "" || len(resp.ProtoReflect().GetUnknown()) > 0 {
		t.Errorf("%v", resp)
	}
}

func TestARetryThatFailsSparesThePod(t *testing.T) {
	w := newWorld(t)
	config := podConfig("acme")
	_, container := w.running(config)
	config.Annotations["NICs"] = []byte(`[{"name":"eth0"},{"name":"eth7"}]`)
	w.network.FailNext("AttachNIC", errors.New("no port"))
	_, err := w.RunPodSandbox(t.Context(), &arktosv1alpha2.RunPodSandboxRequest{Config: config})
	if err == nil {
		t.Error("it got a NIC that there is none of")
	}
	w.runs(container)
}
