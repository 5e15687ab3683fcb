// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestTuneFollowsResources(t *testing.T) {
	shares := func(n uint) *libvirtxml.DomainCPUTune {
		return &libvirtxml.DomainCPUTune{Shares: &libvirtxml.DomainCPUTuneShares{Value: n}}
	}
	for name, tc := range map[string]struct {
		resources *vm.Resources
		want      *libvirtxml.DomainCPUTune
	}{
		"a pod's cgroup is in charge": {nil, nil},
		"nothing is limited":          {&vm.Resources{}, &libvirtxml.DomainCPUTune{}},
		"shares":                      {&vm.Resources{CPUShares: 512}, shares(512)},
		"shares below the minimum":    {&vm.Resources{CPUShares: 1}, shares(2)},
		"shares above cgroup v2's":    {&vm.Resources{CPUShares: 65536}, shares(10000)},
		"unlimited quota":             {&vm.Resources{CPUPeriod: 100000, CPUQuota: -1}, &libvirtxml.DomainCPUTune{}},
		"quota of the whole machine": {
			&vm.Resources{CPUPeriod: 100000, CPUQuota: 150000},
			&libvirtxml.DomainCPUTune{
				GlobalPeriod: &libvirtxml.DomainCPUTunePeriod{Value: 100000},
				GlobalQuota:  &libvirtxml.DomainCPUTuneQuota{Value: 150000},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := configured(t, tune, machine(func(m *vm.Machine) { m.Cputune = tc.resources }))
			if diff := cmp.Diff(tc.want, d.CPUTune); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTunePinsTheWholeMachine(t *testing.T) {
	d, err := Domain(machine(func(m *vm.Machine) {
		m.Cputune = &vm.Resources{CpusetCPUs: "0-1,4", CpusetMems: "1"}
	}))
	if err != nil {
		t.Fatal(err)
	}
	if d.VCPU.CPUSet != "0-1,4" || d.CPUTune.EmulatorPin.CPUSet != "0-1,4" || d.NUMATune.Memory.Nodeset != "1" {
		t.Errorf("vcpu cpuset %q, emulator %q, memory %q",
			d.VCPU.CPUSet, d.CPUTune.EmulatorPin.CPUSet, d.NUMATune.Memory.Nodeset)
	}
}
