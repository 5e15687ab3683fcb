// SPDX-License-Identifier: Apache-2.0

package vmagent

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/vmlet/vmlet/pkg/agentlink"
	"github.com/vmlet/vmlet/pkg/vm"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// maxList is the most entries of a list that are kept of what a guest says.
const maxList = 64

// Info asks the agent about its guest.
func (a *Agents) Info(ctx context.Context, id string) (vm.GuestInfo, error) {
	reply, err := a.insist(ctx, id, &agentv1.Request{Call: &agentv1.Request_Info{Info: &agentv1.InfoRequest{}}})
	if err != nil {
		return vm.GuestInfo{}, err
	}
	said, err := info(reply.GetInfo())
	said.AgentVersion = a.version(id)
	return said, err
}

// info makes what a guest says of itself fit to be shown.
func info(i *agentv1.Info) (vm.GuestInfo, error) {
	if i == nil {
		return vm.GuestInfo{}, nonsense(errors.New("no info"))
	}
	said := vm.GuestInfo{
		Agent:     vm.AgentVMlet,
		BootID:    text(i.GetBootId()),
		Hostname:  text(i.GetHostname()),
		Kernel:    text(i.GetKernel()),
		OS:        text(i.GetOs()),
		OSID:      text(i.GetOsId()),
		OSVersion: text(i.GetOsVersion()),
		Machine:   text(i.GetMachine()),
		Clock:     time.Unix(0, i.GetClockUnixNano()),
		Uptime:    max(0, time.Duration(i.GetUptimeNano())),
	}
	for _, f := range most(i.GetFilesystems()) {
		said.Filesystems = append(said.Filesystems, vm.GuestFilesystem{
			Device: text(f.GetDevice()), MountPoint: text(f.GetMountPoint()), Type: text(f.GetType()),
			Total: amount(f.GetTotalBytes()), Used: amount(f.GetUsedBytes()),
		})
	}
	if i.GetMachine() == "" { // of an agent that is older than the rest
		said.Unknown = []vm.GuestFact{vm.FactLogins, vm.FactInterfaces}
	}
	for _, l := range most(i.GetLogins()) {
		said.Logins = append(said.Logins, vm.GuestLogin{
			User: text(l.GetUser()), Terminal: text(l.GetTerminal()), Host: text(l.GetHost()), At: time.Unix(0, l.GetAtUnixNano()),
		})
	}
	for _, n := range most(i.GetInterfaces()) {
		said.Interfaces = append(said.Interfaces, vm.GuestInterface{
			Name: text(n.GetName()), MAC: text(n.GetMac()), Addresses: addresses(n.GetAddresses()),
		})
	}
	return said, nil
}

func text(s string) string { return agentlink.Printable(s, maxText) }

func most[T any](list []T) []T { return list[:min(len(list), maxList)] }

// amount is a number of bytes as the rest of vmlet counts them.
func amount(n uint64) int64 { return int64(min(n, 1<<63-1)) }

// addresses leaves out what is none.
func addresses(texts []string) (found []netip.Prefix) {
	for _, t := range most(texts) {
		if p, err := netip.ParsePrefix(t); err == nil {
			found = append(found, p)
		}
	}
	return found
}
