// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// jobLook is the time between two looks at a block job: libvirt has an event for its end, but the end of a job that an
// earlier vmlet began is only found by looking.
const jobLook = 50 * time.Millisecond

// jobLooks is how often a job that QEMU has not any more is looked for in the domain before it counts as given up: libvirt
// takes note of its end a moment later.
const jobLooks = 40

// Chain implements lifecycle.Hypervisor.
func (h *Hypervisor) Chain(ctx context.Context, id string) ([]string, error) {
	return call(ctx, h.domains, "look at the disk", id, func(s *session) ([]string, error) {
		dom, err := h.find(s, id)
		if err != nil {
			return nil, err
		}
		defer free(dom)
		_, files, err := chainOf(dom)
		return files, err
	})
}

// chainOf tells the boot disk's name for libvirt, and its files.
func chainOf(dom *virt.Domain) (target string, files []string, err error) {
	if err := requireActive(dom); err != nil {
		return "", nil, err
	}
	if err := switchBack(dom); err != nil {
		return "", nil, err
	}
	d, err := devicesOf(dom, 0)
	if err != nil {
		return "", nil, err
	}
	for _, disk := range d.Disks {
		if disk.Boot == nil || disk.Target == nil {
			continue
		}
		return disk.Target.Dev, append([]string{sourcePath(disk.Source)}, below(disk.BackingStore)...), nil
	}
	return "", nil, fmt.Errorf("the machine has no disk to boot from: %w", errdefs.ErrFailedPrecondition)
}

// below lists the files of a chain. libvirt ends it with an element in which there is nothing.
func below(store *libvirtxml.DomainDiskBackingStore) (files []string) {
	for ; store != nil && sourcePath(store.Source) != ""; store = store.BackingStore {
		files = append(files, sourcePath(store.Source))
	}
	return files
}

// PullLayer implements lifecycle.Hypervisor.
func (h *Hypervisor) PullLayer(ctx context.Context, id, base string) error {
	pulled := func(files []string) bool { return len(files) > 1 && files[1] == base }
	return h.blockJob(ctx, "pull a layer", id, pulled, func(dom *virt.Domain, disk string, files []string) error {
		if !slices.Contains(files, base) {
			return fmt.Errorf("%s is not below the disk: %w", base, errdefs.ErrFailedPrecondition)
		}
		return dom.BlockRebase(disk, base, 0, 0)
	})
}

// CommitLayer implements lifecycle.Hypervisor.
func (h *Hypervisor) CommitLayer(ctx context.Context, id, from, into string) error {
	committed := func(files []string) bool { return !slices.Contains(files, from) }
	return h.blockJob(ctx, "commit a layer", id, committed, func(dom *virt.Domain, disk string, files []string) error {
		at := slices.Index(files, from)
		if at == 0 || at+1 >= len(files) || files[at+1] != into {
			return fmt.Errorf("%s is not right above %s, below the disk: %w", from, into, errdefs.ErrFailedPrecondition)
		}
		return dom.BlockCommit(disk, into, from, 0, 0)
	})
}

// progress is what blockJob has seen of a job, or done.
type progress int

const (
	waiting progress = iota
	begins
	ended
	over
)

// blockJob waits for the job that is under way, if there is one, and then begins one unless its work is done.
func (h *Hypervisor) blockJob(
	ctx context.Context, operation, id string, done func(files []string) bool, begin func(dom *virt.Domain, disk string, files []string) error,
) error {
	begun, looks := false, 0
	for {
		gone := begun && looks >= jobLooks
		now, err := call(ctx, h.layers, operation, id, func(s *session) (_ progress, err error) {
			dom, err := h.find(s, id)
			if err != nil {
				return waiting, err
			}
			defer free(dom)
			disk, files, err := chainOf(dom)
			if err != nil {
				return waiting, err
			}
			job, err := dom.GetBlockJobInfo(disk, 0)
			switch {
			case err != nil:
				return waiting, err
			case job.Type != virt.DOMAIN_BLOCK_JOB_TYPE_UNKNOWN:
				return waiting, nil
			case done(files):
				return over, nil
			case gone:
				return waiting, fmt.Errorf("QEMU gave it up; its log may say why: %w", errdefs.ErrAborted)
			case begun:
				return ended, nil
			}
			return begins, begin(dom, disk, files)
		})
		if err != nil || now == over {
			return err
		}
		begun = begun || now == begins
		if now == ended {
			looks++
		}
		select {
		case <-time.After(jobLook):
		case <-ctx.Done():
			return fmt.Errorf("%s of sandbox %s: %w", operation, id, ctx.Err())
		}
	}
}
