// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"slices"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

// metrics collects the metrics of one sample.
type metrics struct {
	at     int64
	labels []string // values of podLabels
	list   []*runtimeapi.Metric
}

const (
	counter = runtimeapi.MetricType_COUNTER
	gauge   = runtimeapi.MetricType_GAUGE
)

// add adds a value with those of the metric's own labels. "The corresponding LabelValues to
// the LabelKeys defined in the MetricDescriptor", in their order.
func (m *metrics) add(d *runtimeapi.MetricDescriptor, kind runtimeapi.MetricType, value uint64, more ...string) {
	m.list = append(m.list, &runtimeapi.Metric{
		Name: d.GetName(), Timestamp: m.at, MetricType: kind, Value: count(value),
		LabelValues: append(slices.Clip(m.labels), more...),
	})
}

// podMetrics are those of the pod as a whole, which is one VM.
func podMetrics(sb *vm.Sandbox, s vm.Stats) []*runtimeapi.Metric {
	m := metrics{at: nanos(s.At), labels: []string{"", sb.ID, "", "", sb.Spec.Namespace, sb.Spec.Name}}
	m.addUsage(s)
	for _, nic := range s.NICs {
		m.add(metricRxBytes, counter, nic.RxBytes, nic.Name)
		m.add(metricRxErrors, counter, nic.RxErrors, nic.Name)
		m.add(metricTxBytes, counter, nic.TxBytes, nic.Name)
		m.add(metricTxErrors, counter, nic.TxErrors, nic.Name)
	}
	return m.list
}

// containerMetrics are those of the container that runs in the VM.
func containerMetrics(sb *vm.Sandbox, c *vm.Container, s vm.Stats) []*runtimeapi.Metric {
	m := metrics{at: nanos(s.At), labels: []string{c.Spec.Name, c.ID, imageName(c.Spec), c.ID, sb.Spec.Namespace, sb.Spec.Name}}
	m.addUsage(s)
	m.add(metricFailures, counter, s.PageFaults, "pgfault", "container")
	m.add(metricFailures, counter, s.MajorFaults, "pgmajfault", "container")
	if s.DiskMount != "" {
		m.add(metricFS, gauge, s.DiskUsed, s.DiskMount)
	}
	m.add(metricStart, gauge, epochSeconds(c.Status.StartedAt))
	m.add(metricSeen, gauge, epochSeconds(s.At))
	if r := c.Held().Resources; r != nil {
		m.add(metricMemLimit, gauge, notNegative(r.MemoryLimit))
		m.add(metricCPUShares, gauge, notNegative(r.CPUShares))
		if r.CPUQuota > 0 {
			m.add(metricCPUQuota, gauge, notNegative(r.CPUQuota))
			m.add(metricCPUPeriod, gauge, notNegative(r.CPUPeriod))
		}
	}
	return m.list
}

func (m *metrics) addUsage(s vm.Stats) {
	m.add(metricCPU, counter, s.CPUUsage/uint64(time.Second), "total")
	m.add(metricMemory, gauge, s.MemoryUsage)
	m.add(metricWorkingSet, gauge, s.WorkingSet)
	m.add(metricRSS, gauge, s.RSS)
}

func epochSeconds(t time.Time) uint64 { return notNegative(t.Unix()) }

func notNegative(n int64) uint64 { return uint64(max(n, 0)) }
