// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vmlet/vmlet/pkg/vm"
)

// gauges gathers a family's values by their only label.
func gauges(t *testing.T, r *prometheus.Registry, family string) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if f.GetName() != family {
			continue
		}
		for _, m := range f.GetMetric() {
			got[m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
		}
	}
	return got
}

func TestRecordsAreCountedByStateAlsoWhereThereIsNone(t *testing.T) {
	r := prometheus.NewRegistry()
	r.MustRegister(states{
		func() []*vm.Sandbox { return []*vm.Sandbox{{Status: vm.SandboxStatus{State: vm.SandboxReady}}} },
		func() []*vm.Container {
			running := vm.Container{Status: vm.ContainerStatus{State: vm.ContainerRunning}}
			return []*vm.Container{&running, &running}
		},
	})
	for family, want := range map[string]map[string]float64{
		"vmlet_sandboxes":  {"Broken": 0, "NotReady": 0, "Ready": 1, "Removing": 0, "Stopping": 0},
		"vmlet_containers": {"Created": 0, "Starting": 0, "Running": 2, "Exited": 0, "Removing": 0},
	} {
		if got := gauges(t, r, family); !maps.Equal(got, want) {
			t.Errorf("%s = %v, want %v", family, got, want)
		}
	}
}

func TestOperationsAreCountedByOutcome(t *testing.T) {
	r := prometheus.NewRegistry()
	observe := observer(r, "test_seconds", "Of a test.")
	observe("start", time.Second, nil)
	observe("start", time.Second, errors.New("no"))
	families, err := r.Gather()
	if err != nil || len(families) != 1 {
		t.Fatalf("%v, %v", families, err)
	}
	outcomes := map[string]float64{}
	for _, m := range families[0].GetMetric() {
		outcomes[m.GetLabel()[1].GetValue()] = m.GetHistogram().GetSampleSum()
	}
	if want := map[string]float64{"ok": 1, "error": 1}; !maps.Equal(outcomes, want) {
		t.Errorf("outcomes = %v, want %v", outcomes, want)
	}
}
