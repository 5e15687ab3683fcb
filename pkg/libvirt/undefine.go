// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"
)

// undefineAll drops what libvirt keeps for a domain beside its definition; without these
// flags it refuses to undefine a domain that has such things. What UEFI keeps belongs to the root disk, and may outlive the domain
// as that does: whoever removes the one removes the other.
const undefineAll = virt.DOMAIN_UNDEFINE_KEEP_NVRAM | virt.DOMAIN_UNDEFINE_MANAGED_SAVE |
	virt.DOMAIN_UNDEFINE_SNAPSHOTS_METADATA | virt.DOMAIN_UNDEFINE_CHECKPOINTS_METADATA

// Undefine implements lifecycle.Hypervisor. Files are removed last and also for an absent
// domain: a crash in between leaves them alone.
func (h *Hypervisor) Undefine(ctx context.Context, id string) error {
	err := run(ctx, h.domains, "undefine domain", id, func(s *session) error {
		dom, err := h.find(s, id)
		if err != nil {
			return err
		}
		defer free(dom)
		// libvirt would let an active domain run on, as a transient one.
		if err := refuseActive(dom); err != nil {
			return err
		}
		return dom.UndefineFlags(undefineAll)
	})
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	if err := errors.Join(removeLogs(h.cfg.LogDir, id), h.removeShareSocket(id)); err != nil {
		return fmt.Errorf("undefine domain of sandbox %s: %w", id, err)
	}
	return nil
}
