// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"testing"

	virt "libvirt.org/go/libvirt"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestStatsAreInBytesAndSummedOverDisks(t *testing.T) {
	got := domainStats(testID, virt.DomainStats{
		Cpu:     &virt.DomainStatsCPU{Time: 42},
		Balloon: &virt.DomainStatsBalloon{Rss: 3, Current: 4},
		Block: []virt.DomainStatsBlock{
			{RdBytes: 1, RdReqs: 2, WrBytes: 3, WrReqs: 4}, {RdBytes: 10, RdReqs: 20, WrBytes: 30, WrReqs: 40},
		},
	})
	want := vm.DomainStats{
		SandboxID: testID, CPUTime: 42, RSS: 3072, BalloonCurrent: 4096,
		BlockReadBytes: 11, BlockReadOps: 22, BlockWriteBytes: 33, BlockWriteOps: 44,
	}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := domainStats(testID, virt.DomainStats{}); got != (vm.DomainStats{SandboxID: testID}) {
		t.Errorf("of a domain that told nothing: %+v", got)
	}
}

func TestVersionsAreReadable(t *testing.T) {
	for number, want := range map[uint32]string{9000000: "9.0.0", 7002022: "7.2.22", 10000001: "10.0.1"} {
		if got := versionString(number); got != want {
			t.Errorf("%d is %q, want %q", number, got, want)
		}
	}
}
