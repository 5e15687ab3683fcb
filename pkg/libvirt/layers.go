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

// Chains implements lifecycle.Hypervisor.
func (h *Hypervisor) Chains(ctx context.Context, id string) ([][]string, error) {
	return call(ctx, h.domains, "look at the disks", id, func(s *session) (all [][]string, err error) {
		dom, err := h.find(s, id)
		if err != nil {
			return nil, err
		}
		defer free(dom)
		if err := requireActive(dom); err != nil {
			return nil, err
		}
		if err := switchBack(ctx, dom); err != nil {
			return nil, err
		}
		chains, err := chainsOf(dom)
		for _, c := range chains {
			all = append(all, c.files)
		}
		return all, err
	})
}

// chain is a disk by libvirt's name for it, with its files.
type chain struct {
	target string
	files  []string
}

// chainsOf tells of the disks of an active machine, the boot disk first.
func chainsOf(dom *virt.Domain) (chains []chain, err error) {
	if err := requireActive(dom); err != nil {
		return nil, err
	}
	d, err := devicesOf(dom, 0)
	if err != nil {
		return nil, err
	}
	boots := false
	for _, disk := range d.Disks {
		if disk.Target == nil || sourcePath(disk.Source) == "" {
			continue
		}
		one := chain{disk.Target.Dev, append([]string{sourcePath(disk.Source)}, below(disk.BackingStore)...)}
		if disk.Boot == nil {
			chains = append(chains, one)
			continue
		}
		chains, boots = append([]chain{one}, chains...), true
	}
	if !boots {
		return nil, fmt.Errorf("the machine has no disk to boot from: %w", errdefs.ErrFailedPrecondition)
	}
	return chains, nil
}

// chainWith finds the disk that one of the files is under.
func chainWith(chains []chain, files ...string) (chain, bool) {
	i := slices.IndexFunc(chains, func(c chain) bool {
		return slices.ContainsFunc(c.files, func(path string) bool { return slices.Contains(files, path) })
	})
	if i < 0 {
		return chain{}, false
	}
	return chains[i], true
}

// below lists the files of a chain. libvirt ends it with an element in which there is nothing.
func below(store *libvirtxml.DomainDiskBackingStore) (files []string) {
	for ; store != nil && sourcePath(store.Source) != ""; store = store.BackingStore {
		files = append(files, sourcePath(store.Source))
	}
	return files
}

// PullLayer implements lifecycle.Hypervisor.
func (h *Hypervisor) PullLayer(ctx context.Context, id, path, base string) error {
	return h.blockJob(ctx, "pull a layer", id, blockWork{
		find: func(chains []chain) (chain, bool, error) {
			c, found := chainWith(chains, path)
			if !found || c.files[0] != path {
				return c, false, fmt.Errorf("no disk of the machine is %s: %w", path, errdefs.ErrFailedPrecondition)
			}
			return c, base == "" && len(c.files) == 1 || len(c.files) > 1 && c.files[1] == base, nil
		},
		begin: func(dom *virt.Domain, c chain) error {
			if base != "" && !slices.Contains(c.files, base) {
				return fmt.Errorf("%s is not below the disk: %w", base, errdefs.ErrFailedPrecondition)
			}
			return dom.BlockRebase(c.target, base, 0, 0)
		},
	})
}

// CommitLayer implements lifecycle.Hypervisor.
func (h *Hypervisor) CommitLayer(ctx context.Context, id, from, into string) error {
	return h.blockJob(ctx, "commit a layer", id, blockWork{
		find: func(chains []chain) (chain, bool, error) {
			c, _ := chainWith(chains, from, into)
			return c, !slices.Contains(c.files, from), nil
		},
		begin: func(dom *virt.Domain, c chain) error {
			at := slices.Index(c.files, from)
			if at == 0 || at+1 >= len(c.files) || c.files[at+1] != into {
				return fmt.Errorf("%s is not right above %s, below the disk: %w", from, into, errdefs.ErrFailedPrecondition)
			}
			return dom.BlockCommit(c.target, into, from, 0, 0)
		},
	})
}

// blockWork is what a job is for.
type blockWork struct {
	// find finds the disk, and whether the work is done. A disk without a target is none: nothing works on it.
	find  func(chains []chain) (c chain, done bool, err error)
	begin func(dom *virt.Domain, c chain) error
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
func (h *Hypervisor) blockJob(ctx context.Context, operation, id string, work blockWork) error {
	begun, looks := false, 0
	for {
		gone := begun && looks >= jobLooks
		now, err := call(ctx, h.layers, operation, id, func(s *session) (_ progress, err error) {
			dom, err := h.find(s, id)
			if err != nil {
				return waiting, err
			}
			defer free(dom)
			chains, err := chainsOf(dom)
			if err != nil {
				return waiting, err
			}
			disk, done, err := work.find(chains)
			if err != nil || disk.target == "" {
				return over, err
			}
			job, err := dom.GetBlockJobInfo(disk.target, 0)
			switch {
			case err != nil:
				return waiting, err
			case job.Type != virt.DOMAIN_BLOCK_JOB_TYPE_UNKNOWN:
				return waiting, nil
			case done:
				return over, nil
			case gone:
				return waiting, fmt.Errorf("QEMU gave it up; its log may say why: %w", errdefs.ErrAborted)
			case begun:
				return ended, nil
			}
			return begins, work.begin(dom, disk)
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
