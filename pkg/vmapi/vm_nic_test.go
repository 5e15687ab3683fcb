// SPDX-License-Identifier: Apache-2.0

package vmapi_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

func (v vms) AttachNIC(_ context.Context, ref string, spec vm.NICSpec, config []byte) (vm.NICAttachment, error) {
	*v.asked = append(*v.asked, fmt.Sprintf("attach %s %+v %s", ref, spec, config))
	return vm.NICAttachment{NIC: nicView(spec), Guest: vm.NICGuestNoAgent, Message: "none"}, nil
}

func (v vms) DetachNIC(_ context.Context, ref, name string, wait time.Duration) error {
	*v.asked = append(*v.asked, fmt.Sprintf("detach %s %s %s", ref, name, wait))
	return nil
}

func (vms) NICs(string) ([]vm.NICView, error) {
	return []vm.NICView{{NIC: vm.NIC{Name: "eth0", Down: true}, State: vm.NICAttached, Primary: true}, nicView(vm.NICSpec{Name: "eth1"})}, nil
}

func (v vms) SetLinkState(_ context.Context, ref, name string, up bool) (vm.NICView, error) {
	*v.asked = append(*v.asked, fmt.Sprintf("link %s %s %v", ref, name, up))
	return nicView(vm.NICSpec{Name: name}), nil
}

func nicView(spec vm.NICSpec) vm.NICView {
	return vm.NICView{
		NIC:  vm.NIC{Name: spec.Name, MAC: "02:00:00:00:00:01", MTU: 1400, IPs: []vm.NICAddress{{Prefix: netip.MustParsePrefix("10.0.0.7/24")}}},
		Spec: spec, State: vm.NICDetaching, Plugged: true, AttachedAt: time.Unix(1, 2),
	}
}

func TestNICsAreTold(t *testing.T) {
	client, v := vmClient(t)
	got, err := client.AttachNIC(t.Context(), &vmletv1.AttachNICRequest{
		Vm: "a", Name: "eth1", Network: "n", Mac: "m", Ips: []string{"i"}, PortId: "p", Subnet: "s", Vpc: "v", Tag: "t", CniArgs: map[string]string{"K": "V"},
	})
	if err != nil {
		t.Fatal(err)
	}
	nic := &vmletv1.NIC{
		Name: "eth1", State: vmletv1.NICState_NIC_STATE_DETACHING, Mac: "02:00:00:00:00:01", Ips: []string{"10.0.0.7/24"}, Mtu: 1400,
		LinkUp: true, Plugged: true, Network: "n", PortId: "p", Subnet: "s", Vpc: "v", Tag: "t", AttachedAt: 1e9 + 2,
	}
	want := &vmletv1.AttachNICResponse{Nic: nic, Guest: vmletv1.NICGuestState_NIC_GUEST_STATE_NO_AGENT, GuestMessage: "none"}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if _, err := client.AttachNIC(t.Context(), &vmletv1.AttachNICRequest{Vm: "a", Name: "eth1", CniConfig: "{}"}); err != nil {
		t.Error(err)
	}
	if _, err := client.DetachNIC(t.Context(), &vmletv1.DetachNICRequest{Vm: "a", Name: "eth1", WaitMs: 7}); err != nil {
		t.Error(err)
	}
	if _, err := client.SetLinkState(t.Context(), &vmletv1.SetLinkStateRequest{Vm: "a", Name: "eth1", Up: true}); err != nil {
		t.Error(err)
	}
	asked := []string{
		"attach a {Name:eth1 Network:n ConfigDigest: MAC:m IPs:[i] PortID:p Subnet:s VPC:v Tag:t Args:map[K:V]} ",
		"attach a {Name:eth1 Network: ConfigDigest: MAC: IPs:[] PortID: Subnet: VPC: Tag: Args:map[]} {}", "detach a eth1 7ms", "link a eth1 true",
	}
	if diff := cmp.Diff(asked, *v.asked); diff != "" {
		t.Error(diff)
	}
	list, err := client.ListNICs(t.Context(), &vmletv1.ListNICsRequest{Vm: "a"})
	if err != nil || len(list.GetNics()) != 2 || !list.GetNics()[0].GetPrimary() || list.GetNics()[0].GetLinkUp() {
		t.Errorf("%v, %v", list, err)
	}
}

func TestNICsThatAreRefused(t *testing.T) {
	client, v := vmClient(t)
	attach := func(req *vmletv1.AttachNICRequest) error { _, err := client.AttachNIC(t.Context(), req); return err }
	detach := func(req *vmletv1.DetachNICRequest) error { _, err := client.DetachNIC(t.Context(), req); return err }
	link := func(req *vmletv1.SetLinkStateRequest) error {
		_, err := client.SetLinkState(t.Context(), req)
		return err
	}
	_, listErr := client.ListNICs(t.Context(), &vmletv1.ListNICsRequest{})
	for what, err := range map[string]error{
		"no VM": attach(&vmletv1.AttachNICRequest{Name: "eth1"}), "no name": attach(&vmletv1.AttachNICRequest{Vm: "a"}),
		"two networks":  attach(&vmletv1.AttachNICRequest{Vm: "a", Name: "eth1", Network: "n", CniConfig: "{}"}),
		"a long config": attach(&vmletv1.AttachNICRequest{Vm: "a", Name: "eth1", CniConfig: strings.Repeat(" ", 64<<10+1)}),
		"detach of all": detach(&vmletv1.DetachNICRequest{Vm: "a"}), "a wait before": detach(&vmletv1.DetachNICRequest{Vm: "a", Name: "eth1", WaitMs: -1}),
		"no link": link(&vmletv1.SetLinkStateRequest{Vm: "a"}), "list of all": listErr,
	} {
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", what, err)
		}
	}
	if len(*v.asked) > 0 {
		t.Errorf("asked all the same: %v", *v.asked)
	}
}
