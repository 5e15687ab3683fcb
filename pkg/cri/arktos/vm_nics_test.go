// SPDX-License-Identifier: Apache-2.0

package arktos_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/vmlet/vmlet/pkg/vm"
	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
)

// attaching is what AttachNetworkInterface makes of a NIC.
func (w *world) attaching(pod string, nic *arktosv1alpha2.NicSpec) error {
	_, err := w.AttachNetworkInterface(w.t.Context(), &arktosv1alpha2.DeviceAttachDetachRequest{PodSandboxID: pod, Nic: nic})
	return err
}

// A pod may be called as another one's sandbox ID begins: that one's VM is none of its business.
func TestAPodsNameIsNoBeginningOfAnID(t *testing.T) {
	w := newWorld(t)
	sandbox := w.sandbox(podConfig("acme"))
	for _, name := range []string{sandbox[:1], sandbox[:2], sandbox[:31]} {
		w.is(codes.NotFound, w.attaching(name, &arktosv1alpha2.NicSpec{Name: "eth2"}))
		_, err := w.DetachNetworkInterface(t.Context(), device(name, "eth1", ""))
		w.is(codes.NotFound, err)
		_, err = w.ListNetworkInterfaces(t.Context(), &arktosv1alpha2.ListDeviceRequest{PodSandboxId: name})
		w.is(codes.NotFound, err)
	}
	w.hasNICs(sandbox, ready("eth0", "p0"), ready("eth1", "p1"))
}

// Who gives UIDs may give one twice.
func TestPodsOfOneUIDAreSeveral(t *testing.T) {
	w := newWorld(t)
	for _, namespace := range []string{"a", "b"} {
		if _, err := w.svc.RunSandbox(t.Context(), vm.SandboxSpec{Name: "web", Namespace: namespace, UID: "u"}); err != nil {
			t.Fatal(err)
		}
	}
	err := w.attaching("web", &arktosv1alpha2.NicSpec{Name: "eth1"})
	w.is(codes.InvalidArgument, err)
	if err == nil || !strings.Contains(err.Error(), "a/web (") || !strings.Contains(err.Error(), "b/web (") {
		t.Errorf("the candidates are not in %v", err)
	}
}

func TestANICThatIsThereAsAskedIsASuccess(t *testing.T) {
	w := newWorld(t)
	sandbox := w.sandbox(podConfig("acme"))
	ips := map[string]string{}
	for _, n := range must[*arktosv1alpha2.ListDeviceResponse](t)(w.ListNetworkInterfaces(t.Context(), &arktosv1alpha2.ListDeviceRequest{PodSandboxId: "db"})).GetNics() {
		ips[n.GetName()] = n.GetIpAddress()
	}
	for _, tc := range []struct {
		nic  *arktosv1alpha2.NicSpec
		want codes.Code
	}{
		{&arktosv1alpha2.NicSpec{Name: "eth0"}, codes.OK},
		{&arktosv1alpha2.NicSpec{Name: "eth0", PortId: "p0", IpAddress: ips["eth0"]}, codes.OK},
		{&arktosv1alpha2.NicSpec{Name: "eth0", PortId: "p9"}, codes.AlreadyExists},
		{&arktosv1alpha2.NicSpec{Name: "eth0", IpAddress: "192.0.2.9"}, codes.AlreadyExists},
		{&arktosv1alpha2.NicSpec{Name: "eth1", PortId: "p1", IpAddress: ips["eth1"]}, codes.OK},
		{&arktosv1alpha2.NicSpec{Name: "eth1", PortId: "p1", IpAddress: "192.0.2.9"}, codes.AlreadyExists},
		{&arktosv1alpha2.NicSpec{Name: "eth1", SubnetName: "other"}, codes.AlreadyExists},
	} {
		if err := w.attaching("db", tc.nic); status.Code(err) != tc.want {
			t.Errorf("%v: %v, want %s", tc.nic, err, tc.want)
		}
	}
	_, err := w.DetachNetworkInterface(t.Context(), device("db", "eth0", ""))
	w.is(codes.FailedPrecondition, err)
	w.hasNICs(sandbox, ready("eth0", "p0"), ready("eth1", "p1"))
}

// What cannot be a NIC leaves nothing behind.
func TestNICsThatCannotBe(t *testing.T) {
	w := newWorld(t)
	sandbox, _ := w.running(podConfig("acme"))
	for _, nic := range []*arktosv1alpha2.NicSpec{
		{Name: "../../x"}, {Name: "a-name-that-is-too-long"}, {Name: "eth2", IpAddress: "ten"}, {Name: "eth2", PortId: "p;K8S_POD_NAME=x"},
	} {
		if err := w.attaching("db", nic); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", nic, err)
		}
		w.hasNICs(sandbox, ready("eth0", "p0"), ready("eth1", "p1"))
	}
}

// A guest may let go of a device by itself: the NIC is told of as failed, so that it is not taken for one that works.
func TestANICThatTheGuestLetGoOfHasFailed(t *testing.T) {
	w := newWorld(t)
	sandbox, _ := w.running(podConfig("acme"))
	sb, err := w.svc.Sandbox(sandbox)
	if err != nil {
		t.Fatal(err)
	}
	w.hypervisor.ReleaseNIC(sandbox, sb.Status.NICs[0].NIC.Tap)
	w.isFound("that the guest has let go of eth1", func() bool {
		return w.podStatus(sandbox).GetNetwork().GetNics()[1].GetState() == arktosv1alpha2.NICState_NIC_FAILED
	})
	w.hasNICs(sandbox, ready("eth0", "p0"), &arktosv1alpha2.NICStatus{Name: "eth1", PortId: "p1", State: arktosv1alpha2.NICState_NIC_FAILED, Reason: "Unplugged"})
	w.is(codes.OK, w.attaching("db", &arktosv1alpha2.NicSpec{Name: "eth1", PortId: "p1"}))
	w.hasNICs(sandbox, ready("eth0", "p0"), ready("eth1", "p1"))
}

func TestANICTellsWhetherItHasIPv6(t *testing.T) {
	w := newWorld(t)
	sandbox := w.sandbox(podConfig("acme"))
	w.is(codes.OK, w.attaching("db", &arktosv1alpha2.NicSpec{Name: "eth2", IpAddress: "fd00::9", IsIpV6Enabled: true}))
	for _, n := range must[*arktosv1alpha2.ListDeviceResponse](t)(w.ListNetworkInterfaces(t.Context(), &arktosv1alpha2.ListDeviceRequest{PodSandboxId: "db"})).GetNics() {
		if six := n.GetName() == "eth2"; n.GetIsIpV6Enabled() != six || six && n.GetIpAddress() != "fd00::9" {
			t.Errorf("%v", n)
		}
	}
	sb, err := w.svc.Sandbox(sandbox)
	if err != nil {
		t.Fatal(err)
	}
	if has, _ := sb.Status.AttachedNIC("eth2"); has.Spec.Args["NICs"] != `[{"name":"eth2","ipAddress":"fd00::9","ipv6Enabled":true}]` {
		t.Errorf("CNI is told %v", has.Spec.Args)
	}
}
