// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"slices"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// podLabels are on every metric: the words that kubelets have for cAdvisor's. Where a
// metric is of the pod as a whole, container, image and name are empty, as with cAdvisor.
var podLabels = []string{"container", "id", "image", "name", "namespace", "pod"}

func describe(name, help string, more ...string) *runtimeapi.MetricDescriptor {
	return &runtimeapi.MetricDescriptor{Name: name, Help: help, LabelKeys: append(slices.Clip(podLabels), more...)}
}

// The metrics, with cAdvisor's names and meanings as far as a VM has them. Values are whole
// numbers in CRI, so times are whole seconds.
var (
	metricCPU        = describe("container_cpu_usage_seconds_total", "CPU time of the VM, of its guest and of QEMU, in seconds.", "cpu")
	metricMemory     = describe("container_memory_usage_bytes", "Memory charged to the VM, page cache included, in bytes.")
	metricWorkingSet = describe("container_memory_working_set_bytes", "Memory charged to the VM less inactive page cache, in bytes.")
	metricRSS        = describe("container_memory_rss", "Anonymous memory of the VM, in bytes.")
	metricFailures   = describe("container_memory_failures_total", "Page faults of QEMU.", "failure_type", "scope")
	metricFS         = describe("container_fs_usage_bytes", "What the VM's root disks take on the host, in bytes.", "device")
	metricStart      = describe("container_start_time_seconds", "When the VM was started, in seconds since the epoch.")
	metricSeen       = describe("container_last_seen", "When the VM was last sampled, in seconds since the epoch.")
	metricMemLimit   = describe("container_spec_memory_limit_bytes", "The memory limit, in bytes, 0 for none.")
	metricCPUQuota   = describe("container_spec_cpu_quota", "The CPU quota, in microseconds of each period.")
	metricCPUPeriod  = describe("container_spec_cpu_period", "The CPU period, in microseconds.")
	metricCPUShares  = describe("container_spec_cpu_shares", "The CPU shares.")
	metricRxBytes    = describe("container_network_receive_bytes_total", "Bytes that the guest received.", "interface")
	metricRxErrors   = describe("container_network_receive_errors_total", "Errors in receiving.", "interface")
	metricTxBytes    = describe("container_network_transmit_bytes_total", "Bytes that the guest sent.", "interface")
	metricTxErrors   = describe("container_network_transmit_errors_total", "Errors in sending.", "interface")
)

// ListMetricDescriptors tells what ListPodSandboxMetrics has: "This list should be static".
func (*Server) ListMetricDescriptors(context.Context, *runtimeapi.ListMetricDescriptorsRequest) (*runtimeapi.ListMetricDescriptorsResponse, error) {
	return &runtimeapi.ListMetricDescriptorsResponse{Descriptors: []*runtimeapi.MetricDescriptor{
		metricCPU, metricMemory, metricWorkingSet, metricRSS, metricFailures, metricFS, metricStart, metricSeen,
		metricMemLimit, metricCPUQuota, metricCPUPeriod, metricCPUShares,
		metricRxBytes, metricRxErrors, metricTxBytes, metricTxErrors,
	}}, nil
}
