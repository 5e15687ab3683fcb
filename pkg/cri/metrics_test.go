// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

// measured is a pod whose VM was sampled, one whose was not yet, and one that is stopped.
func measured() *fake {
	f := pods()
	f.sandboxes[0].Spec.Namespace, f.sandboxes[0].Spec.Name = "shop", "web-0"
	f.containers[0].Spec = vm.ContainerSpec{
		Name: "vm", ImageRef: "r/web:1", Resources: &vm.Resources{MemoryLimit: 512 << 20, CPUQuota: 50000, CPUPeriod: 100000, CPUShares: 512},
	}
	f.stats = []vm.Stats{{
		SandboxID: "aa10", ContainerID: "caa10", At: f.now, CPUUsage: uint64(2500 * time.Millisecond), MemoryUsage: 30, WorkingSet: 20, RSS: 10,
		PageFaults: 7, MajorFaults: 3, DiskUsed: 99, DiskMount: "/var/lib/vmlet",
		NICs: []vm.NICStats{{Name: "eth0", RxBytes: 1, RxErrors: 2, TxBytes: 3, TxErrors: 4}},
	}}
	return f
}

// lines writes metrics as Prometheus does.
func lines(descriptors []*runtimeapi.MetricDescriptor, metrics []*runtimeapi.Metric) []string {
	var out []string
	for _, m := range metrics {
		i := slices.IndexFunc(descriptors, func(d *runtimeapi.MetricDescriptor) bool { return d.GetName() == m.GetName() })
		if i < 0 || len(descriptors[i].GetLabelKeys()) != len(m.GetLabelValues()) {
			out = append(out, fmt.Sprintf("%s does not fit its descriptor", m.GetName()))
			continue
		}
		var labels []string
		for n, key := range descriptors[i].GetLabelKeys() {
			if value := m.GetLabelValues()[n]; value != "" {
				labels = append(labels, key+"="+value)
			}
		}
		out = append(out, fmt.Sprintf("%s{%s} %d %s", m.GetName(), strings.Join(labels, ","), m.GetValue().GetValue(), m.GetMetricType()))
	}
	return out
}

func TestMetricsAreCadvisorsAsFarAsAVMHasThem(t *testing.T) {
	f := measured()
	s := newServer(t, f)
	descriptors, err := s.ListMetricDescriptors(t.Context(), &runtimeapi.ListMetricDescriptorsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.ListPodSandboxMetrics(t.Context(), &runtimeapi.ListPodSandboxMetricsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.GetPodMetrics()) != 2 || got.GetPodMetrics()[0].GetPodSandboxId() != "aa10" || len(got.GetPodMetrics()[1].GetMetrics()) != 0 {
		t.Fatalf("metrics of %v", got.GetPodMetrics())
	}
	web := got.GetPodMetrics()[0]
	const pod, in = "id=aa10,namespace=shop,pod=web-0", "container=vm,id=caa10,image=r/web:1,name=caa10,namespace=shop,pod=web-0"
	seen := f.now.Unix()
	want := []string{
		"container_cpu_usage_seconds_total{" + pod + ",cpu=total} 2 COUNTER",
		"container_memory_usage_bytes{" + pod + "} 30 GAUGE",
		"container_memory_working_set_bytes{" + pod + "} 20 GAUGE",
		"container_memory_rss{" + pod + "} 10 GAUGE",
		"container_network_receive_bytes_total{" + pod + ",interface=eth0} 1 COUNTER",
		"container_network_receive_errors_total{" + pod + ",interface=eth0} 2 COUNTER",
		"container_network_transmit_bytes_total{" + pod + ",interface=eth0} 3 COUNTER",
		"container_network_transmit_errors_total{" + pod + ",interface=eth0} 4 COUNTER",
		"container_cpu_usage_seconds_total{" + in + ",cpu=total} 2 COUNTER",
		"container_memory_usage_bytes{" + in + "} 30 GAUGE",
		"container_memory_working_set_bytes{" + in + "} 20 GAUGE",
		"container_memory_rss{" + in + "} 10 GAUGE",
		"container_memory_failures_total{" + in + ",failure_type=pgfault,scope=container} 7 COUNTER",
		"container_memory_failures_total{" + in + ",failure_type=pgmajfault,scope=container} 3 COUNTER",
		"container_fs_usage_bytes{" + in + ",device=/var/lib/vmlet} 99 GAUGE",
		fmt.Sprintf("container_start_time_seconds{%s} %d GAUGE", in, seen),
		fmt.Sprintf("container_last_seen{%s} %d GAUGE", in, seen),
		"container_spec_memory_limit_bytes{" + in + "} 536870912 GAUGE",
		"container_spec_cpu_shares{" + in + "} 512 GAUGE",
		"container_spec_cpu_quota{" + in + "} 50000 GAUGE",
		"container_spec_cpu_period{" + in + "} 100000 GAUGE",
	}
	all := append(lines(descriptors.GetDescriptors(), web.GetMetrics()), lines(descriptors.GetDescriptors(), web.GetContainerMetrics()[0].GetMetrics())...)
	if !slices.Equal(all, want) {
		t.Errorf("metrics are\n%s\nwant\n%s", strings.Join(all, "\n"), strings.Join(want, "\n"))
	}
	for _, m := range web.GetMetrics() {
		if m.GetTimestamp() != f.now.UnixNano() {
			t.Errorf("%s is of %d, want the sample's time", m.GetName(), m.GetTimestamp())
		}
	}
	for _, d := range descriptors.GetDescriptors() {
		if d.GetHelp() == "" || !slices.ContainsFunc(all, func(line string) bool { return strings.HasPrefix(line, d.GetName()+"{") }) {
			t.Errorf("%s is promised and not there, or not explained", d.GetName())
		}
	}
}

func TestEveryMetricIsOnItsPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/reference/stats.md")
	if err != nil {
		t.Fatal(err)
	}
	descriptors, err := newServer(t, newFake()).ListMetricDescriptors(t.Context(), &runtimeapi.ListMetricDescriptorsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range descriptors.GetDescriptors() {
		if !strings.Contains(string(page), "`"+d.GetName()+"`") {
			t.Errorf("%s is not there", d.GetName())
		}
	}
}
