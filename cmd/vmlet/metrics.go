// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/vmlet/vmlet/pkg/version"
	"github.com/vmlet/vmlet/pkg/vm"
)

// newRegistry makes the registry with what every process tells of itself.
func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "vmlet_build_info", Help: "Always 1; the labels tell what was built.",
	}, []string{"version", "commit"})
	info.WithLabelValues(version.Version, version.Commit).Set(1)
	r.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// observer returns a function that counts and times what it is told of, by name and outcome.
func observer(r prometheus.Registerer, name, help string) func(what string, took time.Duration, err error) {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: name, Help: help,
		// From a read of memory to a pull of gigabytes.
		Buckets: prometheus.ExponentialBuckets(0.001, 4, 10),
	}, []string{"operation", "outcome"})
	r.MustRegister(h)
	return func(what string, took time.Duration, err error) {
		outcome := "ok"
		if err != nil {
			outcome = "error"
		}
		h.WithLabelValues(what, outcome).Observe(took.Seconds())
	}
}

// The states that are shown, also with nothing in them: an absent series is no zero.
var (
	sandboxStates   = []vm.SandboxState{vm.SandboxReady, vm.SandboxBroken, vm.SandboxStopping, vm.SandboxNotReady, vm.SandboxRemoving}
	containerStates = []vm.ContainerState{vm.ContainerCreated, vm.ContainerStarting, vm.ContainerRunning, vm.ContainerExited, vm.ContainerRemoving}
)

// states counts records by state when Prometheus asks.
type states struct {
	sandboxes  func() []*vm.Sandbox
	containers func() []*vm.Container
}

var (
	sandboxesDesc  = prometheus.NewDesc("vmlet_sandboxes", "Sandboxes by state.", []string{"state"}, nil)
	containersDesc = prometheus.NewDesc("vmlet_containers", "Containers, each one boot of its sandbox's VM, by state: Running ones are VMs that run.", []string{"state"}, nil)
)

// Describe implements prometheus.Collector.
func (states) Describe(ch chan<- *prometheus.Desc) {
	ch <- sandboxesDesc
	ch <- containersDesc
}

// Collect implements prometheus.Collector.
func (s states) Collect(ch chan<- prometheus.Metric) {
	bySandbox, byContainer := map[vm.SandboxState]int{}, map[vm.ContainerState]int{}
	for _, sb := range s.sandboxes() {
		bySandbox[sb.Status.State]++
	}
	for _, c := range s.containers() {
		byContainer[c.Status.State]++
	}
	for _, state := range sandboxStates {
		ch <- prometheus.MustNewConstMetric(sandboxesDesc, prometheus.GaugeValue, float64(bySandbox[state]), string(state))
	}
	for _, state := range containerStates {
		ch <- prometheus.MustNewConstMetric(containersDesc, prometheus.GaugeValue, float64(byContainer[state]), string(state))
	}
}
