// SPDX-License-Identifier: Apache-2.0

package qga

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/vmlet/vmlet/pkg/vm"
)

// maxList is the most entries of a list that are kept of what a guest says.
const maxList = 64

// The answers, as far as they are used.
type (
	agentInfo struct {
		Version string `json:"version"`
	}
	osInfo struct {
		ID            string `json:"id"`
		VersionID     string `json:"version-id"`
		PrettyName    string `json:"pretty-name"`
		KernelRelease string `json:"kernel-release"`
		Machine       string `json:"machine"`
	}
	hostName struct {
		Name string `json:"host-name"`
	}
	login struct {
		User string  `json:"user"`
		At   float64 `json:"login-time"` // seconds
	}
	filesystem struct {
		Name       string `json:"name"`
		MountPoint string `json:"mountpoint"`
		Type       string `json:"type"`
		Used       int64  `json:"used-bytes"`
		Total      int64  `json:"total-bytes"`
	}
	networkInterface struct {
		Name      string `json:"name"`
		MAC       string `json:"hardware-address"`
		Addresses []struct {
			Address string `json:"ip-address"`
			Prefix  int    `json:"prefix"`
		} `json:"ip-addresses"`
	}
)

// Info asks the agent about its guest, one thing after another: what it refuses to tell is unknown.
func (a *Agent) Info(ctx context.Context, id string) (vm.GuestInfo, error) {
	said := vm.GuestInfo{Agent: vm.AgentQEMU}
	for _, ask := range []struct {
		fact vm.GuestFact
		do   func(context.Context, string, *vm.GuestInfo) error
	}{
		{vm.FactAgentVersion, a.askVersion},
		{vm.FactOS, a.askOS},
		{vm.FactHostname, a.askHostname},
		{vm.FactClock, a.askClock},
		{vm.FactLogins, a.askLogins},
		{vm.FactFilesystems, a.askFilesystems},
		{vm.FactInterfaces, a.askInterfaces},
		{vm.FactBootID, a.askBoot},
	} {
		err := ask.do(ctx, id, &said)
		switch {
		case errors.Is(err, errRefused):
			said.Unknown = append(said.Unknown, ask.fact)
			if ask.fact == vm.FactBootID {
				said.Unknown = append(said.Unknown, vm.FactUptime)
			}
		case err != nil:
			return vm.GuestInfo{}, err
		}
	}
	return said, nil
}

// tell asks a question without arguments.
func (a *Agent) tell(ctx context.Context, id, execute string, answer any) error {
	return a.command(ctx, id, commandTimeout, execute, nil, answer)
}

func (a *Agent) askVersion(ctx context.Context, id string, said *vm.GuestInfo) error {
	var i agentInfo
	err := a.tell(ctx, id, "guest-info", &i)
	said.AgentVersion = printable(i.Version)
	return err
}

func (a *Agent) askOS(ctx context.Context, id string, said *vm.GuestInfo) error {
	var o osInfo
	err := a.tell(ctx, id, "guest-get-osinfo", &o)
	said.OSID, said.OSVersion, said.OS = printable(o.ID), printable(o.VersionID), printable(o.PrettyName)
	said.Kernel, said.Machine = printable(o.KernelRelease), printable(o.Machine)
	return err
}

func (a *Agent) askHostname(ctx context.Context, id string, said *vm.GuestInfo) error {
	var h hostName
	err := a.tell(ctx, id, "guest-get-host-name", &h)
	said.Hostname = printable(h.Name)
	return err
}

func (a *Agent) askClock(ctx context.Context, id string, said *vm.GuestInfo) error {
	var nanos int64
	err := a.tell(ctx, id, "guest-get-time", &nanos)
	if err == nil {
		said.Clock = time.Unix(0, nanos)
	}
	return err
}

func (a *Agent) askLogins(ctx context.Context, id string, said *vm.GuestInfo) error {
	var logins []login
	err := a.tell(ctx, id, "guest-get-users", &logins)
	for _, l := range logins[:min(len(logins), maxList)] {
		said.Logins = append(said.Logins, vm.GuestLogin{User: printable(l.User), At: time.UnixMilli(int64(l.At * 1000))})
	}
	return err
}

func (a *Agent) askFilesystems(ctx context.Context, id string, said *vm.GuestInfo) error {
	var all []filesystem
	err := a.tell(ctx, id, "guest-get-fsinfo", &all)
	for _, f := range all[:min(len(all), maxList)] {
		said.Filesystems = append(said.Filesystems, vm.GuestFilesystem{
			Device: "/dev/" + printable(f.Name), MountPoint: printable(f.MountPoint), Type: printable(f.Type),
			Total: max(0, f.Total), Used: max(0, f.Used),
		})
	}
	return err
}

func (a *Agent) askInterfaces(ctx context.Context, id string, said *vm.GuestInfo) error {
	var all []networkInterface
	err := a.tell(ctx, id, "guest-network-get-interfaces", &all)
	for _, n := range all[:min(len(all), maxList)] {
		one := vm.GuestInterface{Name: printable(n.Name), MAC: printable(n.MAC)}
		if one.MAC == "00:00:00:00:00:00" {
			one.MAC = "" // as vmlet-agent has it
		}
		for _, address := range n.Addresses[:min(len(n.Addresses), maxList)] {
			if ip, err := netip.ParseAddr(address.Address); err == nil && address.Prefix >= 0 && address.Prefix <= ip.BitLen() {
				one.Addresses = append(one.Addresses, netip.PrefixFrom(ip.WithZone(""), address.Prefix))
			}
		}
		said.Interfaces = append(said.Interfaces, one)
	}
	return err
}

// askBoot reads what the agent has no command for.
func (a *Agent) askBoot(ctx context.Context, id string, said *vm.GuestInfo) error {
	out, err := a.script(ctx, id, bootScript)
	if err != nil {
		return err
	}
	fields := strings.Fields(string(out))
	if len(fields) != 2 {
		return nonsense(errors.New("neither a boot ID nor a time"))
	}
	seconds, err := strconv.ParseFloat(fields[1], 64)
	if err != nil || seconds < 0 || seconds > float64(1<<33) {
		return nonsense(fmt.Errorf("an uptime of %q", printable(fields[1])))
	}
	said.BootID, said.Uptime = printable(fields[0]), time.Duration(seconds*float64(time.Second))
	return nil
}
