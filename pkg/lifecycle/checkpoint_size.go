// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// A checkpoint is of one size, which its memory was written with. That is what its configuration makes or, for a VM that was
// resized, something else: so the manifest has both, and who restores it gives a configuration of the former.

// mayHaveSize refuses a configuration that the machine of a checkpoint is not of, or whose limits have no room for it.
func (s *Service) mayHaveSize(sb vm.Sandbox, spec vm.ContainerSpec, from vm.Checkpoint, ask vm.Overrides) error {
	want := from.Configured
	if want == (vm.MachineSize{}) {
		want = from.Machine
	}
	size, err := sizeOf(sb.Present(), spec, ask, *s.defaults.Load(), s.Accel())
	if err != nil {
		return err
	}
	if size != want {
		return fmt.Errorf("the memory is of a machine with %s, whose configuration makes one with %s, and the pod's makes one with %s: %w",
			inWords(from.Machine), inWords(want), inWords(size), errdefs.ErrFailedPrecondition)
	}
	if room := roomOf(sb.Present(), spec, s.Accel()); room.limited && from.Machine.Memory > room.bytes {
		return fmt.Errorf("the memory is of a machine with %s, and there is only room for %d MiB: %s: %w",
			inWords(from.Machine), max(room.bytes, 0)/vm.MiB, room.why, errdefs.ErrFailedPrecondition)
	}
	return nil
}

func inWords(size vm.MachineSize) string {
	words := fmt.Sprintf("%d CPUs and %d MiB", size.VCPUs, size.Memory/vm.MiB)
	if most := max(size.MaxVCPUs, size.VCPUs); most > size.VCPUs || size.MaxMemory > 0 {
		words += fmt.Sprintf(" (at most %d and %d)", most, max(size.MaxMemory, size.Memory)/vm.MiB)
	}
	return words
}

// askedAnywhere is what a VM's owner asked for that means the same on another host: which of its CPUs and memory nodes QEMU may
// use does not.
func askedAnywhere(asked vm.SizeAsk) vm.SizeAsk {
	asked.CpusetCPUs, asked.CpusetMems = "", ""
	return asked
}
