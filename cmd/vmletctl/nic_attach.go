// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

func (a *app) nicAttachCommand() *cobra.Command {
	req := &vmletv1.AttachNICRequest{}
	var config string
	cmd := &cobra.Command{
		Use:   "attach POD NAME",
		Short: "Give a VM another NIC",
		Long: `Gives a VM another NIC, without a reboot: CNI attaches the pod once more, the machine gets
the device, and vmlet-agent its addresses in the guest. NAME is the interface's name there.
A pod whose VM does not run has the NIC from its next boot on.`,
		Example: `  vmletctl nic attach web eth1                       # to the node's default network
  vmletctl nic attach web eth1 --network storage     # to another one of its networks
  vmletctl nic attach web eth1 --cni-config net.conflist --ip 10.20.0.7 --mac 02:00:00:12:34:56`,
		Args: cobra.ExactArgs(2),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			if config != "" {
				if req.GetNetwork() != "" {
					return usageError{"vmletctl nic attach", fmt.Errorf("--network and --cni-config: give one of them")}
				}
				text, err := os.ReadFile(config)
				if err != nil {
					return err
				}
				req.CniConfig = string(text)
			}
			t, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			req.Vm, req.Name = t.sandbox.GetId(), args[1]
			resp, err := c.vms.AttachNIC(ctx, req)
			if err != nil {
				return err
			}
			v := nicViewOf(resp.GetNic())
			v.Guest, v.GuestMessage = word(resp.GetGuest().String(), "NIC_GUEST_STATE_"), resp.GetGuestMessage()
			return a.print(v, func(w io.Writer) {
				row(w, "NAME", "MAC", "ADDRESSES", "NETWORK", "LINK", "GUEST")
				row(w, v.Name, v.MAC, strings.Join(v.IPs, ","), v.Network, v.Link, v.guest())
			})
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&req.Network, "network", "", "`NAME` of one of the node's CNI networks (default: its default one)")
	flags.StringVar(&config, "cni-config", "", "`FILE` with a CNI configuration, in place of the node's")
	flags.StringVar(&req.Mac, "mac", "", "`MAC` that CNI is to give (default: any)")
	flags.StringSliceVar(&req.Ips, "ip", nil, "`ADDRESS` that CNI is to give (default: any); may be repeated")
	flags.StringVar(&req.PortId, "port-id", "", "PORT_ID in CNI_ARGS, for plugins that know it")
	flags.StringVar(&req.Subnet, "subnet", "", "SUBNET in CNI_ARGS")
	flags.StringVar(&req.Vpc, "vpc", "", "VPC in CNI_ARGS")
	flags.StringVar(&req.Tag, "tag", "", "TAG in CNI_ARGS")
	flags.StringToStringVar(&req.CniArgs, "cni-arg", nil, "`KEY=VALUE` in CNI_ARGS; may be repeated")
	return cmd
}

// guest is what became of the NIC in the guest, for a table.
func (v nicView) guest() string {
	if v.GuestMessage == "" {
		return v.Guest
	}
	return v.Guest + ": " + v.GuestMessage
}
