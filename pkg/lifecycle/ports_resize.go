// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"

	"github.com/vmlet/vmlet/pkg/vm"
)

// SizeHotplug is the part of Hypervisor that gives a machine another size. What is plugged is the memory beyond that of
// its boot, in bytes, a multiple of vm.MemoryBlock. All are NotFound without a domain.
type SizeHotplug interface {
	// LiveSize is what the running machine has. FailedPrecondition if not active.
	LiveSize(ctx context.Context, id string) (vm.LiveSize, error)
	// AddVCPUs gives the running machine that many CPUs in all, which its guest has to take into use, and with the last of them
	// the definition, and returns what the machine has then. One that has more is left alone. FailedPrecondition if not active, or beyond its places for
	// CPUs; ResourceExhausted where there is no room for another just now, which passes by itself. After an error some may have
	// been added that the definition does not have.
	AddVCPUs(ctx context.Context, id string, count int) (vm.LiveSize, error)
	// RequestMemory tells the guest how much memory it is to have plugged, and returns; EventMemorySize says that there is
	// news. FailedPrecondition if not active, or for a machine without headroom for it. The definition stays. Idempotent.
	RequestMemory(ctx context.Context, id string, plugged int64) error
	// DefineSize gives the definition that size, for the next boot by another QEMU; a running machine is left alone.
	// FailedPrecondition where it has no places for it. Idempotent.
	DefineSize(ctx context.Context, id string, vcpus int, plugged int64) error
}
