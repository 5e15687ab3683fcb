// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Teardown implements lifecycle.Network. What was attached last is detached first. DEL gets the request and the configuration of the
// ADD, whatever req and the configuration folder say now. If DEL fails everything stays, for
// another try.
//
// It succeeds without DEL in two cases. If there is neither attachment nor namespace, no
// plugin ever ran for the sandbox, or all is done. If there is a namespace alone, which
// takes somebody else to remove the attachment, and CNI is not configured any more, there is
// no plugin to ask; the namespace goes and with it the interfaces.
func (n *Network) Teardown(ctx context.Context, req vm.NetworkRequest) error {
	if err := n.teardown(ctx, req); err != nil {
		return fmt.Errorf("tear down network of sandbox %s: %w", req.SandboxID, err)
	}
	return nil
}

func (n *Network) teardown(ctx context.Context, req vm.NetworkRequest) error {
	id := req.SandboxID
	if err := checkID(id); err != nil {
		return err
	}
	path := n.conf.Paths.SandboxNetNS(id)
	netns := path
	if err := findNetNS(path); errdefs.IsNotFound(err) {
		netns = "" // what CNI calls a namespace that is gone
	} else if err != nil {
		return err
	}
	if err := n.detachAll(ctx, id, netns); err != nil {
		return err
	}
	_, err := n.attachments.get(id)
	if netns != "" || !errdefs.IsNotFound(err) {
		a, err := n.attachmentOf(req)
		if err != nil {
			return err
		}
		if len(a.Config) > 0 {
			if err := n.del(ctx, a, netns); err != nil {
				return err
			}
		}
	}
	if err := removeNetNS(path); err != nil {
		return err
	}
	return n.attachments.remove(id)
}
