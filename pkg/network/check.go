// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Check implements lifecycle.Network.
func (n *Network) Check(ctx context.Context, network vm.Network) error {
	id := network.Request.SandboxID
	if err := n.checkSandbox(ctx, network.Request); err != nil {
		return fmt.Errorf("check network of sandbox %s: %w", id, err)
	}
	return nil
}

func (n *Network) checkSandbox(ctx context.Context, req vm.NetworkRequest) error {
	if err := checkID(req.SandboxID); err != nil {
		return err
	}
	path := n.conf.Paths.SandboxNetNS(req.SandboxID)
	if err := findNetNS(path); err != nil {
		return err
	}
	a, err := n.attachmentOf(req)
	if err != nil {
		return err
	}
	err = n.check(ctx, a, path)
	if err == nil || errdefs.IsUnavailable(err) || errdefs.IsDeadlineExceeded(err) || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %w", errdefs.ErrFailedPrecondition, err)
}

// Present implements lifecycle.Network. A mount point without its namespace does not count.
func (n *Network) Present(ctx context.Context) (map[string]bool, error) {
	ids, err := sandboxesIn(n.conf.Paths.NetNS())
	if err != nil {
		return nil, fmt.Errorf("look for network namespaces: %w", err)
	}
	present := make(map[string]bool, len(ids))
	for _, id := range ids {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("look for network namespaces: %w", ctx.Err())
		}
		err := findNetNS(n.conf.Paths.SandboxNetNS(id))
		if err != nil && !errdefs.IsNotFound(err) {
			return nil, fmt.Errorf("look for network namespaces: %w", err)
		}
		if err == nil {
			present[id] = true
		}
	}
	return present, nil
}

// List implements lifecycle.Network. A sandbox whose attachment somebody removed is listed
// by its ID alone.
func (n *Network) List(ctx context.Context) ([]vm.NetworkRequest, error) {
	ids, err := sandboxesIn(n.attachments.dir)
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	spaces, err := sandboxesIn(n.conf.Paths.NetNS())
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	ids = append(ids, spaces...)
	slices.Sort(ids)
	requests := make([]vm.NetworkRequest, 0, len(ids))
	for _, id := range slices.Compact(ids) {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("list networks: %w", ctx.Err())
		}
		a, err := n.attachments.get(id)
		if errdefs.IsNotFound(err) {
			a.Request.SandboxID = id
		} else if err != nil {
			return nil, fmt.Errorf("list networks: %w", err)
		}
		requests = append(requests, a.Request)
	}
	return requests, nil
}
