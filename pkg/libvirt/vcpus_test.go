// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"strings"
	"testing"

	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/libvirt/domainxml"
	"github.com/vmlet/vmlet/pkg/vm"
)

func TestRegionsOfATranslationCache(t *testing.T) {
	const size = "/33472512\r\nTB count            16252\r\n"
	for name, tc := range map[string]struct {
		state       string
		has, places int
		want        int
	}{
		"after a boot":          {"gen code size       9186211" + size, 1, 3, 11},
		"almost full":           {"gen code size       33000000" + size, 1, 3, 0},
		"three CPUs":            {"gen code size       2000000" + size, 3, 4, 13},
		"more CPUs than 2 MiB":  {"gen code size       0" + size, 1, 24, 23},
		"fewer regions by CPUs": {"gen code size       0/134000000", 1, 2, 15},
		"one CPU, one region":   {"gen code size       0" + size, 1, 1, 0},
	} {
		got, err := freeRegions("Translation buffer state:\r\n"+tc.state, tc.has, tc.places)
		if err != nil || got != tc.want {
			t.Errorf("%s: %d, %v; want %d", name, got, err, tc.want)
		}
	}
	if _, err := freeRegions("JIT information is only available with accel=tcg", 1, 2); err == nil || !strings.Contains(err.Error(), "accel=tcg") {
		t.Errorf("what says nothing: %v", err)
	}
}

func sizeIn(t *testing.T, text string) (vm.LiveSize, error) {
	t.Helper()
	d, err := parseBrief(text)
	if err != nil {
		t.Fatal(err)
	}
	return d.size()
}

func TestWhatARunningDomainSaysOfItsSize(t *testing.T) {
	const memory = `<memory model='virtio-mem'><target><size unit='KiB'>262144</size><requested unit='KiB'>131072</requested><current unit='KiB'>65536</current></target></memory>`
	for text, want := range map[string]vm.LiveSize{
		`<domain><vcpu placement='static' current='2'>4</vcpu><devices>` + memory + `</devices></domain>`: {VCPUs: 2, Requested: 128 * vm.MiB, Plugged: 64 * vm.MiB},
		`<domain><vcpu>3</vcpu><devices/></domain>`:                                                       {VCPUs: 3},
	} {
		got, err := sizeIn(t, text)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	if _, err := sizeIn(t, `<domain><vcpu>3</vcpu><devices>`+strings.ReplaceAll(memory, "KiB", "MiB")+`</devices></domain>`); err == nil {
		t.Error("another unit is taken for KiB")
	}
}

func TestADefinitionOfAnotherSize(t *testing.T) {
	machine := func() *libvirtxml.Domain {
		return &libvirtxml.Domain{
			VCPU: &libvirtxml.DomainVCPU{Value: 4, Current: 2},
			Devices: &libvirtxml.DomainDeviceList{Memorydevs: []libvirtxml.DomainMemorydev{{
				Model: domainxml.VirtioMem, Target: &libvirtxml.DomainMemorydevTarget{
					Size:      &libvirtxml.DomainMemorydevTargetSize{Value: 4096, Unit: "KiB"},
					Requested: &libvirtxml.DomainMemorydevTargetRequested{Value: 2048, Unit: "KiB"},
				},
			}}},
		}
	}
	d := machine()
	if err := resize(d, 4, 4*vm.MiB); err != nil || d.VCPU.Current != 0 || d.Devices.Memorydevs[0].Target.Requested.Value != 4096 {
		t.Errorf("another: %v, %+v", err, d.VCPU)
	}
	if d = machine(); resize(d, 3, 2*vm.MiB) != nil || d.VCPU.Current != 3 {
		t.Errorf("other CPUs: %+v", d.VCPU)
	}
	for vcpus, plugged := range map[int]int64{5: 0, 2: 6 * vm.MiB} {
		if err := resize(machine(), vcpus, plugged); err == nil {
			t.Errorf("%d CPUs and %d bytes fit", vcpus, plugged)
		}
	}
}
