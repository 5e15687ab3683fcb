// SPDX-License-Identifier: Apache-2.0

package vmagent

import (
	"context"
	"time"

	"github.com/vmlet/vmlet/pkg/vm"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// nicWait is how long the agent waits for the device of a NIC: a guest that is busy takes its time to find one.
const nicWait = 15 * time.Second

// SetNICs has the guest give NICs their names, addresses and routes. NotImplemented for an agent that is too old.
func (a *Agents) SetNICs(ctx context.Context, id string, nics []vm.NIC) error {
	req := &agentv1.SetNICsRequest{WaitNano: nicWait.Nanoseconds()}
	for _, nic := range nics {
		req.Nics = append(req.Nics, nicOf(nic))
	}
	_, err := a.insist(ctx, id, &agentv1.Request{Call: &agentv1.Request_SetNics{SetNics: req}})
	return err
}

// Readdress has the guest give an interface, which it knows by MAC and addresses, others. NotImplemented for an agent that is
// too old.
func (a *Agents) Readdress(ctx context.Context, id string, was, now vm.NIC) error {
	former := nicOf(was)
	_, err := a.insist(ctx, id, &agentv1.Request{Call: &agentv1.Request_Readdress{Readdress: &agentv1.ReaddressRequest{
		FormerMac: former.GetMac(), FormerAddresses: former.GetAddresses(), Now: nicOf(now),
	}}})
	return err
}

func nicOf(nic vm.NIC) *agentv1.NIC {
	out := &agentv1.NIC{Mac: nic.MAC, Name: nic.Name, Mtu: uint32(max(nic.MTU, 0))}
	for _, ip := range nic.IPs {
		out.Addresses = append(out.Addresses, ip.Prefix.String())
		if ip.Gateway.IsValid() {
			out.Gateways = append(out.Gateways, ip.Gateway.String())
		}
	}
	for _, r := range nic.Routes {
		route := &agentv1.NICRoute{To: r.To.String(), Mtu: uint32(max(r.MTU, 0)), Metric: uint32(max(r.Metric, 0))}
		if r.Via.IsValid() {
			route.Via = r.Via.String()
		}
		out.Routes = append(out.Routes, route)
	}
	return out
}
