// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"

	"github.com/vmlet/vmlet/pkg/vm"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// shareTag is how the guest finds the sandbox's share; pkg/libvirt/domainxml gives it.
const shareTag = "vmlet"

// MountShares mounts the sandbox's share in the guest and binds what is in it where it
// belongs. Idempotent.
func (g *Guest) MountShares(ctx context.Context, id, namespace string, mounts []vm.ShareMount) error {
	req := &agentv1.MountSharesRequest{Tag: shareTag, Namespace: namespace}
	for _, m := range mounts {
		req.Mounts = append(req.Mounts, &agentv1.ShareMount{
			Source: m.Source, Path: m.GuestPath,
			// The host enforces what is read-only. A read-only mount in the guest would hold for
			// what is mounted below it on the host, too.
			Readonly: m.ReadOnly && m.RecursiveReadOnly,
		})
	}
	err := g.ask(ctx, id, "a mount of a host folder", &agentv1.Request{Call: &agentv1.Request_MountShares{MountShares: req}})
	return wrap("mount the share in the guest of", id, err)
}

// UnmountShares undoes MountShares; FailedPrecondition with what is in use.
func (g *Guest) UnmountShares(ctx context.Context, id string) error {
	err := g.ask(ctx, id, "a mount of a host folder", &agentv1.Request{Call: &agentv1.Request_UnmountShares{
		UnmountShares: &agentv1.UnmountSharesRequest{Tag: shareTag},
	}})
	return wrap("unmount the share in the guest of", id, err)
}
