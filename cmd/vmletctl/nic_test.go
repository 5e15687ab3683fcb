// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

func testNIC(name string) *vmletv1.NIC {
	return &vmletv1.NIC{
		Name: name, State: vmletv1.NICState_NIC_STATE_ATTACHED, Mac: "02:00:00:12:34:56", Ips: []string{"10.20.0.7/24", "fd00::7/64"},
		Mtu: 1500, LinkUp: true, Plugged: true, Network: "storage",
	}
}

// AttachNIC implements vmletv1.VMServiceServer.
func (v vms) AttachNIC(_ context.Context, req *vmletv1.AttachNICRequest) (*vmletv1.AttachNICResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.note("AttachNIC %s %s %s mac=%s ips=%v port=%s subnet=%s vpc=%s tag=%s args=%v config=%q", req.GetVm(), req.GetName(), req.GetNetwork(),
		req.GetMac(), req.GetIps(), req.GetPortId(), req.GetSubnet(), req.GetVpc(), req.GetTag(), req.GetCniArgs(), req.GetCniConfig())
	resp := &vmletv1.AttachNICResponse{Nic: testNIC(req.GetName()), Guest: vmletv1.NICGuestState_NIC_GUEST_STATE_CONFIGURED}
	if req.GetNetwork() == "" {
		resp.Guest, resp.GuestMessage = vmletv1.NICGuestState_NIC_GUEST_STATE_NO_AGENT, "none answers"
	}
	return resp, nil
}

// DetachNIC implements vmletv1.VMServiceServer.
func (v vms) DetachNIC(_ context.Context, req *vmletv1.DetachNICRequest) (*vmletv1.DetachNICResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.note("DetachNIC %s %s %d", req.GetVm(), req.GetName(), req.GetWaitMs())
	return &vmletv1.DetachNICResponse{}, nil
}

// ListNICs implements vmletv1.VMServiceServer.
func (vms) ListNICs(context.Context, *vmletv1.ListNICsRequest) (*vmletv1.ListNICsResponse, error) {
	own, gone := testNIC("eth0"), testNIC("eth2")
	own.Primary, own.Network, own.LinkUp, gone.Plugged = true, "", false, false
	return &vmletv1.ListNICsResponse{Nics: []*vmletv1.NIC{own, testNIC("eth1"), gone}}, nil
}

// SetLinkState implements vmletv1.VMServiceServer.
func (v vms) SetLinkState(_ context.Context, req *vmletv1.SetLinkStateRequest) (*vmletv1.SetLinkStateResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.note("SetLinkState %s %s %v", req.GetVm(), req.GetName(), req.GetUp())
	nic := testNIC(req.GetName())
	nic.LinkUp = req.GetUp()
	return &vmletv1.SetLinkStateResponse{Nic: nic}, nil
}

func TestNICs(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	config := filepath.Join(t.TempDir(), "net.conflist")
	if err := os.WriteFile(config, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, args := range map[string][]string{
		"nic-attach.txt":   {"nic", "attach", "web", "eth1", "--network", "storage", "--ip", "10.20.0.7,fd00::7", "--mac", "02:00:00:12:34:56", "--port-id", "p", "--subnet", "s", "--vpc", "v", "--tag", "t", "--cni-arg", "K=V"},
		"nic-attach.json":  {"nic", "attach", "web", "eth1", "--cni-config", config, "-o", "json"},
		"nic-no-agent.txt": {"nic", "attach", "web", "eth1"},
		"nic-ls.txt":       {"nic", "ls", "web"},
		"nic-ls.json":      {"nic", "ls", "web", "-o", "json"},
		"nic-link.txt":     {"nic", "link", "web", "eth1", "down"},
		"nic-detach.txt":   {"nic", "detach", "web", "eth1", "--wait", "2m"},
	} {
		got := w.ctl(t, args...)
		got.wantOK(t)
		golden(t, file, got.stdout)
	}
	calls := w.called()
	for _, want := range []string{
		"AttachNIC " + webID + " eth1 storage mac=02:00:00:12:34:56 ips=[10.20.0.7 fd00::7] port=p subnet=s vpc=v tag=t args=map[K:V] config=\"\"",
		"AttachNIC " + webID + " eth1  mac= ips=[] port= subnet= vpc= tag= args=map[] config=\"{}\"",
		"DetachNIC " + webID + " eth1 120000", "SetLinkState " + webID + " eth1 false",
	} {
		if !slices.Contains(calls, want) {
			t.Errorf("called %q, not %q", calls, want)
		}
	}
}

func TestNICsThatAreWrong(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	w.ctl(t, "nic", "attach", "web").wantError(t, exitUsage, "vmletctl nic attach --help")
	w.ctl(t, "nic", "attach", "web", "eth1", "--network", "a", "--cni-config", "b").wantError(t, exitUsage, "give one of them")
	w.ctl(t, "nic", "attach", "web", "eth1", "--cni-config", "/nowhere").wantError(t, exitFailed, "/nowhere")
	w.ctl(t, "nic", "detach", "web", "eth1", "--wait", "-1s").wantError(t, exitUsage, "must not be negative")
	w.ctl(t, "nic", "link", "web", "eth1", "sideways").wantError(t, exitUsage, "neither up nor down")
	w.ctl(t, "nic", "ls", "moon").wantError(t, exitFailed, `no pod "moon"`)
}
