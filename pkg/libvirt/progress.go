// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"errors"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Progress implements lifecycle.Hypervisor. It does not use the connection of snapshots: all its slots may be taken by what
// is asked about.
func (h *Hypervisor) Progress(ctx context.Context, id string) (vm.Progress, error) {
	return call(ctx, h.domains, "look how far a job is", id, func(s *session) (p vm.Progress, err error) {
		dom, err := h.find(s, id)
		if err != nil {
			return p, err
		}
		defer free(dom)
		if err := requireActive(dom); err != nil {
			return p, err
		}
		job, err := dom.GetJobStats(0)
		if err != nil {
			return p, err
		}
		if job.Type != virt.DOMAIN_JOB_NONE {
			return savedOf(job), nil
		}
		chains, err := chainsOf(dom)
		if errors.Is(err, errdefs.ErrFailedPrecondition) {
			return p, nil // nothing to merge: it has no disk to boot from, or has just ended
		}
		if err != nil {
			return p, err
		}
		for _, disk := range chains { // one is merged after the other
			merge, err := dom.GetBlockJobInfo(disk.target, 0)
			if err != nil {
				return p, err
			}
			if merge.Type != virt.DOMAIN_BLOCK_JOB_TYPE_UNKNOWN {
				return vm.Progress{Done: int64(merge.Cur), Total: int64(merge.End)}, nil
			}
		}
		return p, nil
	})
}

// savedOf is how far memory is written. What is left may grow again: the guest goes on writing to what was saved.
func savedOf(job *virt.DomainJobInfo) vm.Progress {
	if !job.MemTotalSet || !job.MemRemainingSet {
		return vm.Progress{}
	}
	return vm.Progress{Done: int64(job.MemTotal - min(job.MemTotal, job.MemRemaining)), Total: int64(job.MemTotal)}
}

// AbortSaving implements lifecycle.Hypervisor.
func (h *Hypervisor) AbortSaving(ctx context.Context, id string) error {
	return run(ctx, h.domains, "abort a snapshot", id, func(s *session) error {
		dom, err := h.find(s, id)
		if err != nil {
			return err
		}
		defer free(dom)
		if active, err := dom.IsActive(); err != nil || !active {
			return err
		}
		job, err := dom.GetJobInfo()
		if err != nil || job.Type == virt.DOMAIN_JOB_NONE {
			return err
		}
		err = dom.AbortJob()
		if lerr, ok := errors.AsType[virt.Error](err); ok && lerr.Code == virt.ERR_OPERATION_INVALID {
			return nil // it has just ended
		}
		return err
	})
}
