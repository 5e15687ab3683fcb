// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"testing"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestCPUModeIsNeverLeftToQEMUsOldestCPU(t *testing.T) {
	for _, tc := range []struct {
		configured string
		accel      vm.Accel
		want       string
	}{
		{"", vm.AccelTCG, "maximum"},
		{"", vm.AccelKVM, "host-model"},
		{"host-passthrough", vm.AccelKVM, "host-passthrough"},
		{"custom", vm.AccelTCG, "custom"},
	} {
		if got := cpuMode(tc.configured, tc.accel); got != tc.want {
			t.Errorf("%q under %s: %q, want %q", tc.configured, tc.accel, got, tc.want)
		}
	}
}
