// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"maps"
	"reflect"
	"testing"
)

func TestLimitsThatAreLeftOpenStay(t *testing.T) {
	old := Resources{
		CPUPeriod: 100000, CPUQuota: 50000, CPUShares: 512, MemoryLimit: GiB, OOMScoreAdj: 900, CpusetCPUs: "0", CpusetMems: "0",
		MemorySwapLimit: GiB, Unified: map[string]string{"memory.high": "1", "memory.low": "2"},
	}
	kept := maps.Clone(old.Unified)
	if got := old.Merge(Resources{}); !reflect.DeepEqual(got, old) {
		t.Errorf("%+v became %+v", old, got)
	}
	change := Resources{
		CPUPeriod: 50000, CPUQuota: -1, CPUShares: 2, MemoryLimit: 2 * GiB, OOMScoreAdj: -997, CpusetCPUs: "1", CpusetMems: "1",
		MemorySwapLimit: 2 * GiB, Unified: map[string]string{"memory.high": "3"},
	}
	want := change
	want.Unified = map[string]string{"memory.high": "3", "memory.low": "2"}
	if got := old.Merge(change); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := (Resources{}).Merge(change); !reflect.DeepEqual(got, change) {
		t.Errorf("got %+v, want %+v", got, change)
	}
	if !maps.Equal(old.Unified, kept) {
		t.Error("the old limits have changed")
	}
}

func TestLimitsThatAreTheSame(t *testing.T) {
	limits := Resources{CPUPeriod: 100000, CPUQuota: -1, MemoryLimit: GiB, Unified: map[string]string{"memory.high": "1"}}
	same := limits
	same.CPUQuota, same.Unified = 0, maps.Clone(limits.Unified)
	if !limits.Equal(same) || !same.Equal(limits) {
		t.Errorf("%+v is not %+v", limits, same)
	}
	for name, change := range map[string]func(*Resources){
		"quota":   func(r *Resources) { r.CPUQuota = 50000 },
		"memory":  func(r *Resources) { r.MemoryLimit++ },
		"unified": func(r *Resources) { r.Unified["memory.high"] = "2" },
	} {
		other := limits
		other.Unified = maps.Clone(limits.Unified)
		if change(&other); limits.Equal(other) {
			t.Errorf("another %s: %+v is %+v", name, limits, other)
		}
	}
}
