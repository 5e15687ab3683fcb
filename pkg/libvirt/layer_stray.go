// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"
)

// switchBackTimeout is how long is waited at once for a guest to be back at its old file; whoever asks again goes on.
const switchBackTimeout = 5 * time.Second

// switchBack has QEMU write to those files that libvirt believes it writes to. They differ where libvirtd has died in the
// middle of a snapshot: QEMU had switched to the new file, and libvirt had not taken note. What it tells of the disk is then
// not true for as long as the machine runs, its guest's writes would go with a file that nobody seems to use, and no layer
// could be made or merged again. What the guest wrote meanwhile is written to the old file. Unavailable while that goes on.
func switchBack(ctx context.Context, dom *virt.Domain) error {
	switched, err := switchedUnseen(dom)
	if err != nil || len(switched) == 0 {
		return err
	}
	// Not what a libvirtd that lives is about to take note of.
	sleep(ctx, jobLook)
	if switched, err = switchedUnseen(dom); err != nil {
		return err
	}
	for _, s := range switched {
		if err := s.back(ctx, dom); err != nil {
			return fmt.Errorf("QEMU writes to %s, which libvirt does not know of since it died: go back to %s: %w", s.now.Inserted.File, s.old, err)
		}
	}
	return nil
}

// unseen is a disk that QEMU has switched to another file, unseen by libvirt, which knows the old one.
type unseen struct {
	alias, old string
	now        usedNode
}

func switchedUnseen(dom *virt.Domain) (switched []unseen, err error) {
	var used []usedNode
	if err := order(dom, "query-block", nil, &used); err != nil {
		return nil, err
	}
	d, err := devicesOf(dom, 0) // after that: a call of libvirt's that was under way has ended by now
	if err != nil {
		return nil, err
	}
	for _, disk := range d.Disks {
		i := slices.IndexFunc(used, func(u usedNode) bool { return disk.Alias != nil && deviceID(u.Device) == disk.Alias.Name })
		if i >= 0 && disk.Device == "disk" && used[i].Inserted.File != "" && used[i].Inserted.File != pathOf(&disk) {
			switched = append(switched, unseen{disk.Alias.Name, pathOf(&disk), used[i]})
		}
	}
	return switched, nil
}

// back merges the new file into the old one, and has QEMU go on there. A job that an earlier call has begun it goes on with.
func (u unseen) back(ctx context.Context, dom *virt.Domain) error {
	var nodes []blockNode
	if err := order(dom, "query-named-block-nodes", map[string]any{"flat": true}, &nodes); err != nil {
		return err
	}
	i := slices.IndexFunc(nodes, func(n blockNode) bool { return n.File == u.old && strings.HasSuffix(n.Name, "-format") })
	if i < 0 {
		return fmt.Errorf("QEMU does not have that file open: %w", errdefs.ErrUnavailable)
	}
	old, job := nodes[i].Name, "vmlet-back-"+u.alias
	ctx, cancel := context.WithTimeout(ctx, switchBackTimeout)
	defer cancel()
	for {
		state, err := jobState(dom, job)
		if err != nil {
			return err
		}
		switch state {
		case "": // not begun, or done
			if back, err := writesTo(dom, u.now.Device, u.old); err != nil {
				return err
			} else if back {
				return dropNodes(dom, slices.DeleteFunc(nodes, func(n blockNode) bool { return n.File != u.now.Inserted.File }))
			}
			err = order(dom, "block-commit", map[string]any{"job-id": job, "device": u.now.Inserted.Name, "base-node": old}, nil)
		case "ready":
			err = order(dom, "job-complete", map[string]any{"id": job}, nil)
		}
		if err != nil {
			return err
		}
		if sleep(ctx, jobLook); ctx.Err() != nil {
			return fmt.Errorf("it takes longer, ask again: %w", errdefs.ErrUnavailable)
		}
	}
}

// writesTo tells whether a device of QEMU's uses a file now.
func writesTo(dom *virt.Domain, device, path string) (bool, error) {
	var used []usedNode
	if err := order(dom, "query-block", nil, &used); err != nil {
		return false, err
	}
	return slices.ContainsFunc(used, func(u usedNode) bool { return u.Device == device && u.Inserted.File == path }), nil
}

// jobState is the state of a job of QEMU's, empty if there is none.
func jobState(dom *virt.Domain, id string) (string, error) {
	var jobs []struct {
		ID     string `json:"id"`
		Status string `json:"status"`
	}
	if err := order(dom, "query-jobs", nil, &jobs); err != nil {
		return "", err
	}
	for _, j := range jobs {
		if j.ID == id {
			return j.Status, nil
		}
	}
	return "", nil
}
