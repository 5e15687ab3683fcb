// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestPs(t *testing.T) {
	w := newWorld(t)
	w.addPods("/var/log/vmlet")
	for file, args := range map[string][]string{
		"ps.txt":       {"ps"},
		"ps-all.txt":   {"ps", "-a"},
		"ps-all.json":  {"ps", "--all", "-o", "json"},
		"ps-all.yaml":  {"-o", "yaml", "ps", "-a"},
		"ps-plain.txt": {"-a", w.socket, "ps", "--address", w.socket},
	} {
		t.Run(file, func(t *testing.T) {
			got := w.ctl(t, args...)
			got.wantOK(t)
			golden(t, file, got.stdout)
		})
	}
}

// Where a pod has a tenant, it is shown, and pods of one name are told apart by it.
func TestTenantsAreShown(t *testing.T) {
	w := newWorld(t)
	w.addPods("/var/log/vmlet")
	twin := proto.CloneOf(w.sandboxes[0])
	twin.Id, twin.Labels = "4444aaaa000000000000000000000000", map[string]string{labelTenant: "acme"}
	twin.Metadata.Uid = "uid-of-acme"
	w.sandboxes = append(w.sandboxes, twin)
	w.info = `{"domain":"d","tenant":"acme","cniArgs":{"VPC":"vpc-1","NICs":"[{}]"},"nics":[{"name":"eth0","mac":"02:00:00:00:00:01"},` +
		`{"name":"eth1","mac":"02:00:00:00:00:02"}],"attached":[{"name":"eth1","portID":"p1","subnet":"s1","vpc":"vpc-1"}]}`
	for file, args := range map[string][]string{
		"ps-tenants.txt":     {"ps"},
		"inspect-tenant.txt": {"inspect", "acme/default/web"},
	} {
		got := w.ctl(t, args...)
		got.wantOK(t)
		golden(t, file, got.stdout)
	}
	w.ctl(t, "inspect", "default/web").wantError(t, exitFailed, "acme/default/web (4444aaaa0000)")
}

func TestPsOfNothing(t *testing.T) {
	w := newWorld(t)
	if got := w.ctl(t, "ps", "-o", "json"); got.stdout != "[]\n" {
		t.Errorf("got %q", got.stdout)
	}
}

func TestPsLeavesOutWhatIsRemovedMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	w.fail("ContainerStatus", codes.NotFound, "container: not found")
	got := w.ctl(t, "ps", "-a")
	got.wantOK(t)
	golden(t, "ps-removed.txt", got.stdout)
}

func TestPsShowsAVMWhosePodIsNotReady(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	w.sandboxes[0].State = runtimeapi.PodSandboxState_SANDBOX_NOTREADY
	got := w.ctl(t, "ps")
	got.wantOK(t)
	golden(t, "ps-not-ready.txt", got.stdout)
}
