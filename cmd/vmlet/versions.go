// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/vmlet/vmlet/pkg/libvirt"
)

// hypervisor is libvirt as the doctor and vmlet.v1 ask for it: with plain words for the
// versions, since neither knows the adapter.
type hypervisor struct{ *libvirt.Hypervisor }

// Versions are libvirt's and QEMU's.
func (h hypervisor) Versions(ctx context.Context) (daemon, qemu string, err error) {
	v, err := h.Hypervisor.Versions(ctx)
	return v.Libvirt, v.QEMU, err
}
