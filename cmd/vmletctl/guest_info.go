// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// guestView is what is told of a guest. Its JSON is for programs: keys are added, none changes.
type guestView struct {
	Pod          string           `json:"pod"`
	Agent        string           `json:"agent"`
	AgentVersion string           `json:"agentVersion,omitempty"`
	OS           osView           `json:"os"`
	Hostname     string           `json:"hostname,omitempty"`
	BootID       string           `json:"bootID,omitempty"`
	UptimeMS     int64            `json:"uptimeMs,omitempty"`
	Clock        string           `json:"clock,omitempty"`
	Users        []loginView      `json:"users,omitempty"`
	Filesystems  []filesystemView `json:"filesystems,omitempty"`
	Interfaces   []interfaceView  `json:"interfaces,omitempty"`
	Unknown      []string         `json:"unknown,omitempty"`
}

type osView struct {
	ID            string `json:"id,omitempty"`
	Version       string `json:"version,omitempty"`
	PrettyName    string `json:"prettyName,omitempty"`
	KernelRelease string `json:"kernelRelease,omitempty"`
	Machine       string `json:"machine,omitempty"`
}

type loginView struct {
	Name     string `json:"name"`
	Terminal string `json:"terminal,omitempty"`
	Host     string `json:"host,omitempty"`
	LoginAt  string `json:"loginAt"`
}

type filesystemView struct {
	Device     string `json:"device"`
	MountPoint string `json:"mountPoint"`
	Type       string `json:"type"`
	TotalBytes int64  `json:"totalBytes"`
	UsedBytes  int64  `json:"usedBytes"`
}

type interfaceView struct {
	Name      string   `json:"name"`
	MAC       string   `json:"mac,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
}

// guestAgents are the agents by what users call them.
var guestAgents = map[vmletv1.GuestAgent]string{
	vmletv1.GuestAgent_GUEST_AGENT_VMLET: "vmlet-agent",
	vmletv1.GuestAgent_GUEST_AGENT_QEMU:  "qemu-guest-agent",
}

func (a *app) guestInfoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "info POD",
		Short: "Tell what a guest says of itself",
		Long: `Tells what a guest says of itself: its system, boot and clock, who is logged in, its file
systems and its network interfaces, and which agent says so.`,
		Example: `  vmletctl guest info web
  vmletctl guest info web -o json`,
		Args: cobra.ExactArgs(1),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			t, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			info, err := c.vms.GuestInfo(ctx, &vmletv1.GuestInfoRequest{Vm: t.sandbox.GetId()})
			if err != nil {
				return err
			}
			v := guestViewOf(t, info)
			return a.print(v, v.table)
		}),
	}
}

func guestViewOf(t target, i *vmletv1.GuestInfoResponse) guestView {
	v := guestView{
		Pod: t.String(), Agent: guestAgents[i.GetAgent()], AgentVersion: i.GetAgentVersion(),
		OS: osView{
			ID: i.GetOs().GetId(), Version: i.GetOs().GetVersion(), PrettyName: i.GetOs().GetPrettyName(),
			KernelRelease: i.GetOs().GetKernelRelease(), Machine: i.GetOs().GetMachine(),
		},
		Hostname: i.GetHostname(), BootID: i.GetBootId(), UptimeMS: i.GetUptimeMs(), Unknown: i.GetUnknownFields(),
	}
	if i.GetClockUnixNs() != 0 {
		v.Clock = stamp(i.GetClockUnixNs())
	}
	for _, u := range i.GetUsers() {
		v.Users = append(v.Users, loginView{Name: u.GetName(), Terminal: u.GetTerminal(), Host: u.GetHost(), LoginAt: stamp(u.GetLoginUnixNs())})
	}
	for _, f := range i.GetFilesystems() {
		v.Filesystems = append(v.Filesystems, filesystemView{
			Device: f.GetDevice(), MountPoint: f.GetMountPoint(), Type: f.GetType(), TotalBytes: f.GetTotalBytes(), UsedBytes: f.GetUsedBytes(),
		})
	}
	for _, n := range i.GetInterfaces() {
		v.Interfaces = append(v.Interfaces, interfaceView{Name: n.GetName(), MAC: n.GetMac(), Addresses: n.GetAddresses()})
	}
	return v
}

// stamp is a time as all commands write it for programs.
func stamp(unixNs int64) string { return time.Unix(0, unixNs).UTC().Format(time.RFC3339) }

// table is what a person is told.
func (v guestView) table(w io.Writer) {
	uptime := ""
	if v.UptimeMS > 0 {
		uptime = (time.Duration(v.UptimeMS) * time.Millisecond).Round(time.Second).String()
	}
	row(w, "Pod:", v.Pod)
	row(w, "Agent:", strings.TrimSpace(v.Agent+" "+v.AgentVersion))
	row(w, "OS:", v.OS.PrettyName)
	row(w, "Kernel:", strings.TrimSpace(v.OS.KernelRelease+" "+v.OS.Machine))
	row(w, "Hostname:", v.Hostname)
	row(w, "Boot ID:", v.BootID)
	row(w, "Uptime:", uptime)
	row(w, "Clock:", v.Clock)
	for i, u := range v.Users {
		from := ""
		if u.Host != "" {
			from = " from " + u.Host
		}
		row(w, first(i, "Users:"), strings.TrimSpace(u.Name+" "+u.Terminal)+from+" since "+u.LoginAt)
	}
	for i, f := range v.Filesystems {
		row(w, first(i, "File systems:"), fmt.Sprintf("%s %s on %s, %s of %s used", f.MountPoint, f.Type, f.Device, size(f.UsedBytes), size(f.TotalBytes)))
	}
	for i, n := range v.Interfaces {
		name := strings.TrimSpace(n.Name + " " + n.MAC)
		row(w, first(i, "Interfaces:"), strings.Join(append([]string{name}, n.Addresses...), " "))
	}
	if len(v.Unknown) > 0 {
		row(w, "Not told:", strings.Join(v.Unknown, ", "))
	}
}

// first is a title for the first row of several.
func first(i int, title string) string {
	if i > 0 {
		return " "
	}
	return title
}
