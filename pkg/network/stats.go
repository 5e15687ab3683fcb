// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"fmt"

	"github.com/containernetworking/plugins/pkg/ns"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Stats implements lifecycle.Network. The counters are those of the taps, which begin anew
// with each QEMU; a NIC without a tap has zeros. What the tap received the guest has sent.
func (n *Network) Stats(ctx context.Context, network vm.Network) ([]vm.NICStats, error) {
	stats, err := n.readStats(ctx, network)
	if err != nil {
		return nil, fmt.Errorf("network counters of sandbox %s: %w", network.Request.SandboxID, err)
	}
	return stats, nil
}

func (n *Network) readStats(ctx context.Context, network vm.Network) ([]vm.NICStats, error) {
	id := network.Request.SandboxID
	if err := checkID(id); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var stats []vm.NICStats
	err := withNetNS(n.conf.Paths.SandboxNetNS(id), func(netns ns.NetNS) (err error) {
		stats, err = tapStats(netns, network.NICs)
		return err
	})
	return stats, err
}

func tapStats(netns ns.NetNS, nics []vm.NIC) ([]vm.NICStats, error) {
	sandbox, err := linksIn(netns)
	if err != nil {
		return nil, err
	}
	defer sandbox.Close()
	stats := make([]vm.NICStats, 0, len(nics))
	for _, nic := range nics {
		s := vm.NICStats{Name: nic.Name}
		tap, err := tapByName(sandbox, nic.Tap)
		if err != nil {
			return nil, err
		}
		if tap != nil && tap.Attrs().Statistics != nil {
			c := tap.Attrs().Statistics
			s.RxBytes, s.RxErrors = c.TxBytes, c.TxErrors
			s.TxBytes, s.TxErrors = c.RxBytes, c.RxErrors
		}
		stats = append(stats, s)
	}
	return stats, nil
}
