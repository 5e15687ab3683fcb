// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

func (a *app) nicLinkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "link POD NAME up|down",
		Short: "Pull the cable of a NIC, or plug it in",
		Long:  `Takes the carrier of a NIC from the guest, or gives it back. It stays so over reboots.`,
		Example: `  vmletctl nic link web eth1 down
  vmletctl nic link web eth1 up`,
		Args: cobra.ExactArgs(3),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			if args[2] != "up" && args[2] != "down" {
				return usageError{"vmletctl nic link", fmt.Errorf("%q is neither up nor down", args[2])}
			}
			t, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			resp, err := c.vms.SetLinkState(ctx, &vmletv1.SetLinkStateRequest{Vm: t.sandbox.GetId(), Name: args[1], Up: args[2] == "up"})
			if err != nil {
				return err
			}
			v := nicViewOf(resp.GetNic())
			return a.print(v, func(w io.Writer) { nicTable(w, []nicView{v}) })
		}),
	}
}
