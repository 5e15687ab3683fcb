// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/plugins/pkg/ns"

	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

// Setup implements lifecycle.Network. AlreadyExists if the sandbox has a network or the
// rest of one: then Teardown comes first. Unavailable if CNI is not usable now.
func (n *Network) Setup(ctx context.Context, req vm.NetworkRequest) (_ vm.Network, err error) {
	id := req.SandboxID
	defer func() {
		if err != nil {
			err = fmt.Errorf("set up network of sandbox %s: %w", id, err)
		}
	}()
	if err := checkRequest(req); err != nil {
		return vm.Network{}, err
	}
	list, err := chooseConfig(n.conf.ConfDir)
	if err != nil {
		return vm.Network{}, err
	}
	if err := n.findPlugins(list); err != nil {
		return vm.Network{}, err
	}

	rev := revert.New(ctx)
	defer rev.Fail(&err) //nolint:contextcheck // it has ctx since New
	// If DEL fails, namespace and attachment stay: Teardown needs them to try again.
	held := false
	unlessHeld := func(undo func() error) func(context.Context) error {
		return func(context.Context) error {
			if held {
				return nil
			}
			return undo()
		}
	}

	a := attachment{Request: req, Config: list.Bytes}
	if err := n.attachments.create(a); err != nil {
		return vm.Network{}, err
	}
	rev.Add("CNI attachment", unlessHeld(func() error { return n.attachments.remove(id) }))

	path := n.conf.Paths.SandboxNetNS(id)
	if err := createNetNS(ctx, path); err != nil {
		return vm.Network{}, err
	}
	rev.Add("netns", unlessHeld(func() error { return removeNetNS(path) }))

	// Before the ADD: a plugin that fails may have done half of its work.
	rev.Add("CNI ADD", func(ctx context.Context) error {
		err := n.del(ctx, a, path)
		held = err != nil
		return err
	})
	out, err := n.attach(ctx, a, path)
	if err != nil {
		return vm.Network{}, err
	}
	rev.Success()
	return out, nil
}

// attach runs ADD and closes the new interface until Wire opens it.
func (n *Network) attach(ctx context.Context, a attachment, path string) (vm.Network, error) {
	result, err := n.add(ctx, a, path)
	if err != nil {
		return vm.Network{}, err
	}
	nic, err := takeOver(ctx, a, path, result, TapName(a.Request.SandboxID, 0))
	if err != nil {
		return vm.Network{}, err
	}
	return vm.Network{Request: a.Request, NetNS: path, NICs: []vm.NIC{nic}, DNS: dnsOf(result.DNS)}, nil
}

// takeOver closes the interface that plugins have made, and says what the guest's is to be.
func takeOver(ctx context.Context, a attachment, path string, result *types100.Result, tap string) (nic vm.NIC, err error) {
	err = withNetNS(path, func(netns ns.NetNS) error {
		l, err := readLink(netns, a.ifName())
		if err != nil {
			// Not the link's NotFound: to the caller that would be about the sandbox.
			return fmt.Errorf("the network's plugins said yes to CNI ADD, but there is %v: %w", err, errdefs.ErrFailedPrecondition) //nolint:errorlint // on purpose, see above
		}
		if nic, err = nicOf(result, l, tap); err != nil {
			return err
		}
		if err := closed(nic.Name).send(ctx, int(netns.Fd())); err != nil {
			return fmt.Errorf("close interface %s: %w", nic.Name, err)
		}
		return nil
	})
	return nic, err
}
