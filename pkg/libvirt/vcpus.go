// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"fmt"
	"regexp"
	"strconv"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"

	"github.com/vmlet/vmlet/pkg/vm"
)

// AddVCPUs implements lifecycle.Hypervisor. CPUs are only ever added: a guest takes its time to give one back, the removal
// happens after libvirt has given up waiting for it, and a second one has left QEMU 7.2 hanging.
func (h *Hypervisor) AddVCPUs(ctx context.Context, id string, count int) (vm.LiveSize, error) {
	return call(ctx, h.starts, "add CPUs", id, func(s *session) (vm.LiveSize, error) {
		dom, err := h.find(s, id)
		if err != nil {
			return vm.LiveSize{}, err
		}
		defer free(dom)
		return addVCPUs(dom, count)
	})
}

func addVCPUs(dom *virt.Domain, count int) (size vm.LiveSize, err error) {
	d, err := liveOf(dom)
	if err != nil {
		return size, err
	}
	if size, err = d.size(); err != nil || size.VCPUs > count {
		return size, err
	}
	if size.VCPUs == count {
		return size, defineVCPUs(dom, count)
	}
	places := d.VCPU.Value
	if count > places {
		return size, fmt.Errorf("the machine has places for %d CPUs, not for %d: %w", places, count, errdefs.ErrFailedPrecondition)
	}
	for ; size.VCPUs < count; size.VCPUs++ {
		if d.Type == "qemu" {
			if err := roomToTranslate(dom, size.VCPUs, places); err != nil {
				return size, err
			}
		}
		where := virt.DOMAIN_VCPU_LIVE
		if size.VCPUs+1 == count {
			where |= virt.DOMAIN_VCPU_CONFIG // a new definition beside it takes half as long again
		}
		if err := dom.SetVcpusFlags(uint(size.VCPUs+1), where); err != nil {
			return size, err
		}
	}
	return size, nil
}

// defineVCPUs gives the definition the CPUs that the machine has: libvirtd may have ended between the two.
func defineVCPUs(dom *virt.Domain, count int) error {
	has, err := dom.GetVcpusFlags(virt.DOMAIN_VCPU_CONFIG)
	if err != nil || int(has) >= count {
		return err
	}
	return dom.SetVcpusFlags(uint(count), virt.DOMAIN_VCPU_CONFIG)
}

// errNoRoomToTranslate passes by itself: QEMU empties the cache when it is full.
var errNoRoomToTranslate = fmt.Errorf("QEMU's translation cache has no room for another emulated CPU until it is next emptied: %w", errdefs.ErrResourceExhausted)

// roomToTranslate looks whether QEMU could translate code for one more CPU. Each emulated CPU writes to a region of one cache,
// and a new CPU that finds none free ends QEMU 7.2 on an assertion (tcg_region_initial_alloc), with the guest. A cache is
// full often: it is emptied only then. ResourceExhausted if there may not be room.
func roomToTranslate(dom *virt.Domain, has, places int) error {
	state, err := dom.QemuMonitorCommand("info jit", virt.DOMAIN_QEMU_MONITOR_COMMAND_HMP)
	if err != nil {
		return fmt.Errorf("ask for QEMU's translation cache: %w", err)
	}
	free, err := freeRegions(state, has, places)
	if err != nil {
		return err
	}
	if free < 1+has { // each that runs may take one meanwhile
		return errNoRoomToTranslate
	}
	return nil
}

var jitSize = regexp.MustCompile(`gen code size +([0-9]+)/([0-9]+)`)

// regionSize is the size of a region in QEMU, where there are more of them than CPUs.
const regionSize = 2 << 20

// freeRegions is how many regions of the cache are free at least, by what "info jit" says. Each CPU has one, and those that
// are full are counted. How many there are follows QEMU's tcg_n_regions; each has a guard page, which is not in its sizes.
func freeRegions(state string, has, places int) (int, error) {
	m := jitSize.FindStringSubmatch(state)
	if m == nil {
		return 0, fmt.Errorf("QEMU says of its translation cache %q, and not how full it is: %w", state, errdefs.ErrNotImplemented)
	}
	used, _ := strconv.Atoi(m[1]) //nolint:errcheck // digits
	size, _ := strconv.Atoi(m[2]) //nolint:errcheck // as above
	regions := min((size+regionSize-1)/regionSize, places*8)
	regions = max(regions, places)
	if size == 0 || places == 1 {
		return 0, nil
	}
	full := used * regions / size
	return regions - full - has, nil
}
