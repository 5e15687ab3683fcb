// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestLimitsThatAreToChangeAreCarriedWhole(t *testing.T) {
	svc := newFake()
	s := newServer(t, svc)
	if _, err := s.UpdateContainerResources(t.Context(), &runtimeapi.UpdateContainerResourcesRequest{
		ContainerId: "c", Linux: &runtimeapi.LinuxContainerResources{
			CpuPeriod: 100000, CpuQuota: -1, CpuShares: 512, MemoryLimitInBytes: 1 << 30, OomScoreAdj: 900, CpusetCpus: "0", CpusetMems: "1",
			MemorySwapLimitInBytes: 2 << 30, Unified: map[string]string{"memory.high": "1"},
		},
	}); err != nil {
		t.Fatal(err)
	}
	want := vm.Resources{
		CPUPeriod: 100000, CPUQuota: -1, CPUShares: 512, MemoryLimit: 1 << 30, OOMScoreAdj: 900, CpusetCPUs: "0", CpusetMems: "1",
		MemorySwapLimit: 2 << 30, Unified: map[string]string{"memory.high": "1"},
	}
	if diff := cmp.Diff(want, svc.change); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if _, err := s.UpdatePodSandboxResources(t.Context(), &runtimeapi.UpdatePodSandboxResourcesRequest{
		PodSandboxId: "s", Resources: &runtimeapi.LinuxContainerResources{CpuQuota: 1}, Overhead: &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 2},
	}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]*vm.Resources{{CPUQuota: 1}, {MemoryLimit: 2}}, []*vm.Resources{svc.limits, svc.overhead}); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestLimitsThatAreNoneChangeNothing(t *testing.T) {
	svc := newFake()
	s := newServer(t, svc)
	wrong := &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: -1}
	_, err := s.UpdateContainerResources(t.Context(), &runtimeapi.UpdateContainerResourcesRequest{ContainerId: "c"})
	wantClass(t, err, errdefs.ErrInvalidArgument, "linux")
	_, err = s.UpdateContainerResources(t.Context(), &runtimeapi.UpdateContainerResourcesRequest{ContainerId: "c", Linux: wrong})
	wantClass(t, err, errdefs.ErrInvalidArgument, "linux.memory_limit_in_bytes")
	_, err = s.UpdatePodSandboxResources(t.Context(), &runtimeapi.UpdatePodSandboxResourcesRequest{PodSandboxId: "s", Resources: wrong})
	wantClass(t, err, errdefs.ErrInvalidArgument, "resources.memory_limit_in_bytes")
	_, err = s.UpdatePodSandboxResources(t.Context(), &runtimeapi.UpdatePodSandboxResourcesRequest{PodSandboxId: "s", Overhead: wrong})
	wantClass(t, err, errdefs.ErrInvalidArgument, "overhead.memory_limit_in_bytes")
	if len(svc.calls) != 0 {
		t.Errorf("went on to %q", svc.calls)
	}
}

func TestTheStatusTellsTheLimitsThatAreNow(t *testing.T) {
	svc := newFake()
	svc.containers = []vm.Container{{
		ID: "c1", Spec: vm.ContainerSpec{Resources: &vm.Resources{CPUShares: 2}},
		Status: vm.ContainerStatus{State: vm.ContainerRunning, Resources: &vm.Resources{CPUShares: 512}},
	}}
	resp, err := newServer(t, svc).ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.GetStatus().GetResources().GetLinux().GetCpuShares(); got != 512 {
		t.Errorf("shares are %d", got)
	}
}
