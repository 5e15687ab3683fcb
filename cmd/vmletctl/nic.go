// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// nicView is what is told of a NIC. Its JSON is for programs: keys are added, none changes.
type nicView struct {
	Name    string   `json:"name"`
	Primary bool     `json:"primary,omitempty"`
	State   string   `json:"state"`
	MAC     string   `json:"mac"`
	IPs     []string `json:"ips"`
	MTU     uint32   `json:"mtu,omitempty"`
	Link    string   `json:"link"` // up or down
	Plugged bool     `json:"plugged"`
	Network string   `json:"network,omitempty"`
	PortID  string   `json:"portID,omitempty"`
	Subnet  string   `json:"subnet,omitempty"`
	VPC     string   `json:"vpc,omitempty"`
	Tag     string   `json:"tag,omitempty"`
	// Guest is what became of it in the guest, of a NIC that was just attached.
	Guest        string `json:"guest,omitempty"`
	GuestMessage string `json:"guestMessage,omitempty"`
}

func (a *app) nicCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "nic",
		Short: "Attach NICs to VMs, list and detach them",
		Example: `  vmletctl nic attach web eth1
  vmletctl nic ls web
  vmletctl nic detach web eth1`,
		Args: subcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },

		SuggestionsMinimumDistance: 2,
	}
	cmd.AddCommand(a.nicAttachCommand(), a.nicDetachCommand(), a.nicListCommand(), a.nicLinkCommand())
	return cmd
}

func (a *app) nicListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "ls POD",
		Short:   "List the NICs of a VM",
		Long:    `Lists the NICs of a VM, the pod's own first, then by age.`,
		Example: `  vmletctl nic ls web`,
		Args:    cobra.ExactArgs(1),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			t, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			resp, err := c.vms.ListNICs(ctx, &vmletv1.ListNICsRequest{Vm: t.sandbox.GetId()})
			if err != nil {
				return err
			}
			views := make([]nicView, len(resp.GetNics()))
			for i, n := range resp.GetNics() {
				views[i] = nicViewOf(n)
			}
			return a.print(views, func(w io.Writer) { nicTable(w, views) })
		}),
	}
}

func nicTable(w io.Writer, views []nicView) {
	head := []string{"NAME", "MAC", "ADDRESSES", "NETWORK", "LINK", "STATE"}
	inVPC := slices.ContainsFunc(views, func(v nicView) bool { return v.VPC != "" || v.PortID != "" || v.Subnet != "" })
	if inVPC {
		head = append(head, "VPC", "SUBNET", "PORT")
	}
	row(w, head...)
	for _, v := range views {
		state := v.State
		if v.State == "attached" && !v.Plugged {
			state = "next boot"
		}
		cells := []string{v.Name, v.MAC, strings.Join(v.IPs, ","), v.Network, v.Link, state}
		if inVPC {
			cells = append(cells, v.VPC, v.Subnet, v.PortID)
		}
		row(w, cells...)
	}
}

func nicViewOf(n *vmletv1.NIC) nicView {
	v := nicView{
		Name: n.GetName(), Primary: n.GetPrimary(), State: word(n.GetState().String(), "NIC_STATE_"),
		MAC: n.GetMac(), IPs: n.GetIps(), MTU: n.GetMtu(), Link: "down", Plugged: n.GetPlugged(), Network: n.GetNetwork(),
		PortID: n.GetPortId(), Subnet: n.GetSubnet(), VPC: n.GetVpc(), Tag: n.GetTag(),
	}
	if n.GetLinkUp() {
		v.Link = "up"
	}
	return v
}
