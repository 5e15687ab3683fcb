// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

func sampleOf(sandbox, container string) vm.Stats {
	return vm.Stats{
		SandboxID: sandbox, ContainerID: container, At: time.Unix(9, 9),
		CPUUsage: 1, NanoCores: 2, MemoryUsage: 3, WorkingSet: 4, RSS: 5, PageFaults: 6, MajorFaults: 7, MemoryAvailable: 8,
		DiskUsed: 9, DiskInodes: 10, DiskMount: "/var/lib/vmlet", PIDs: 11,
		NICs: []vm.NICStats{{Name: "eth0", RxBytes: 12, RxErrors: 13, TxBytes: 14, TxErrors: 15}, {Name: "net1", RxBytes: 16}},
	}
}

func TestASampleIsConvertedWhole(t *testing.T) {
	svc := pods()
	svc.stats = []vm.Stats{sampleOf("aa10", "caa10")}
	const at = 9_000_000_009
	c := &runtimeapi.ContainerStats{
		Attributes: &runtimeapi.ContainerAttributes{
			Id: "caa10", Metadata: &runtimeapi.ContainerMetadata{}, Labels: svc.containers[0].Spec.Labels,
		},
		Cpu: &runtimeapi.CpuUsage{Timestamp: at, UsageCoreNanoSeconds: count(1), UsageNanoCores: count(2)},
		Memory: &runtimeapi.MemoryUsage{
			Timestamp: at, UsageBytes: count(3), WorkingSetBytes: count(4), RssBytes: count(5),
			PageFaults: count(6), MajorPageFaults: count(7), AvailableBytes: count(8),
		},
		WritableLayer: &runtimeapi.FilesystemUsage{
			Timestamp: at, FsId: &runtimeapi.FilesystemIdentifier{Mountpoint: "/var/lib/vmlet"}, UsedBytes: count(9), InodesUsed: count(10),
		},
	}
	pod := &runtimeapi.PodSandboxStats{
		Attributes: &runtimeapi.PodSandboxAttributes{
			Id: "aa10", Metadata: &runtimeapi.PodSandboxMetadata{}, Labels: svc.sandboxes[0].Spec.Labels,
		},
		Linux: &runtimeapi.LinuxPodSandboxStats{
			Cpu: c.GetCpu(), Memory: c.GetMemory(), Containers: []*runtimeapi.ContainerStats{c},
			Network: &runtimeapi.NetworkUsage{
				Timestamp: at,
				DefaultInterface: &runtimeapi.NetworkInterfaceUsage{
					Name: "eth0", RxBytes: count(12), RxErrors: count(13), TxBytes: count(14), TxErrors: count(15),
				},
				Interfaces: []*runtimeapi.NetworkInterfaceUsage{{Name: "net1", RxBytes: count(16), RxErrors: count(0), TxBytes: count(0), TxErrors: count(0)}},
			},
			Process: &runtimeapi.ProcessUsage{Timestamp: at, ProcessCount: count(11)},
		},
	}
	s := newServer(t, svc)
	gotC, err := s.ContainerStats(t.Context(), &runtimeapi.ContainerStatsRequest{ContainerId: "caa1"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c, gotC.GetStats(), protocmp.Transform()); diff != "" {
		t.Errorf("container (-want +got):\n%s", diff)
	}
	gotPod, err := s.PodSandboxStats(t.Context(), &runtimeapi.PodSandboxStatsRequest{PodSandboxId: "aa1"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(pod, gotPod.GetStats(), protocmp.Transform()); diff != "" {
		t.Errorf("pod (-want +got):\n%s", diff)
	}
}

// critest asks for statistics right after StartContainer, and the CRI demands a time.
func TestARunningVMHasStatisticsBeforeItsFirstSample(t *testing.T) {
	s := newServer(t, pods())
	resp, err := s.ListContainerStats(t.Context(), &runtimeapi.ListContainerStatsRequest{Filter: &runtimeapi.ContainerStatsFilter{Id: "caa10"}})
	if err != nil || len(resp.GetStats()) != 1 {
		t.Fatalf("got %v, %v; want one", resp.GetStats(), err)
	}
	got := resp.GetStats()[0]
	start := newFake().now.UnixNano()
	if got.GetCpu().GetTimestamp() != start || got.GetMemory().GetTimestamp() != start {
		t.Errorf("times are %d and %d, want the start, %d", got.GetCpu().GetTimestamp(), got.GetMemory().GetTimestamp(), start)
	}
	if got.GetCpu().GetUsageCoreNanoSeconds().GetValue() != 0 || got.GetCpu().GetUsageNanoCores() != nil || got.GetWritableLayer() != nil {
		t.Errorf("figures were made up: %v", got)
	}
}

func TestWhatDoesNotRunHasNoFigures(t *testing.T) {
	s := newServer(t, pods())
	c, err := s.ContainerStats(t.Context(), &runtimeapi.ContainerStatsRequest{ContainerId: "caa20"})
	if err != nil {
		t.Fatal(err)
	}
	if c.GetStats().GetAttributes().GetId() != "caa20" || c.GetStats().GetCpu() != nil {
		t.Errorf("got %v, want attributes alone", c.GetStats())
	}
	pod, err := s.PodSandboxStats(t.Context(), &runtimeapi.PodSandboxStatsRequest{PodSandboxId: "aa20"})
	if err != nil {
		t.Fatal(err)
	}
	if pod.GetStats().GetAttributes().GetId() != "aa20" || pod.GetStats().GetLinux() == nil || pod.GetStats().GetLinux().GetCpu() != nil {
		t.Errorf("got %v, want attributes alone", pod.GetStats())
	}
}

func TestStatisticsAreFiltered(t *testing.T) {
	svc := pods()
	svc.containers[1].Status.State = vm.ContainerRunning
	svc.stats = []vm.Stats{sampleOf("aa10", "caa10"), sampleOf("aa20", "caa20")}
	s := newServer(t, svc)
	type filter = runtimeapi.ContainerStatsFilter
	for name, tt := range map[string]struct {
		filter *filter
		want   []string
	}{
		"no filter":     {nil, []string{"caa10", "caa20"}}, // not the one that has exited
		"ID":            {&filter{Id: "caa20"}, []string{"caa20"}},
		"exited":        {&filter{Id: "cbb30"}, nil},
		"sandbox":       {&filter{PodSandboxId: "aa10"}, []string{"caa10"}},
		"label":         {&filter{LabelSelector: map[string]string{"app": "db"}}, []string{"caa20"}},
		"unknown":       {&filter{Id: "zz"}, nil},
		"ANDed to none": {&filter{Id: "caa20", LabelSelector: map[string]string{"app": "web"}}, nil},
	} {
		resp, err := s.ListContainerStats(t.Context(), &runtimeapi.ListContainerStatsRequest{Filter: tt.filter})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range resp.GetStats() {
			got = append(got, c.GetAttributes().GetId())
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}

	type podFilter = runtimeapi.PodSandboxStatsFilter
	for name, tt := range map[string]struct {
		filter *podFilter
		want   []string
	}{
		"no filter": {nil, []string{"aa10", "aa20"}}, // not the one that is not ready
		"ID":        {&podFilter{Id: "aa2"}, []string{"aa20"}},
		"label":     {&podFilter{LabelSelector: map[string]string{"app": "web"}}, []string{"aa10"}},
	} {
		resp, err := s.ListPodSandboxStats(t.Context(), &runtimeapi.ListPodSandboxStatsRequest{Filter: tt.filter})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range resp.GetStats() {
			got = append(got, p.GetAttributes().GetId())
			if len(p.GetLinux().GetContainers()) != 1 || p.GetLinux().GetContainers()[0].GetAttributes().GetId() != "c"+p.GetAttributes().GetId() {
				t.Errorf("%s: containers of %s are %v", name, p.GetAttributes().GetId(), p.GetLinux().GetContainers())
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}
