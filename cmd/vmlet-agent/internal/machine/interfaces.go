// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"net"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

const (
	// maxInterfaces and maxAddresses bound how many of them are told of.
	maxInterfaces = 64
	maxAddresses  = 64
)

// interfaces returns the network interfaces of the namespace that the agent runs in.
func interfaces() []*agentv1.Interface {
	found, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var all []*agentv1.Interface
	for _, one := range found[:min(len(found), maxInterfaces)] {
		i := &agentv1.Interface{Name: one.Name, Mac: one.HardwareAddr.String()}
		addresses, err := one.Addrs()
		if err != nil {
			addresses = nil // it has gone
		}
		for _, a := range addresses[:min(len(addresses), maxAddresses)] {
			i.Addresses = append(i.Addresses, a.String())
		}
		all = append(all, i)
	}
	return all
}
