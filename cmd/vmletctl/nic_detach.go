// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

func (a *app) nicDetachCommand() *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "detach POD NAME",
		Short: "Take a NIC from a VM",
		Long: `Takes a NIC from a VM. It waits for the guest to let go of the device; one that does not
keeps the NIC, and that is an error. The pod's own NIC, eth0, stays.`,
		Example: `  vmletctl nic detach web eth1
  vmletctl nic detach --wait 2m web eth1   # a guest that is busy`,
		Args: cobra.ExactArgs(2),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			if wait < 0 {
				return usageError{"vmletctl nic detach", fmt.Errorf("--wait must not be negative")}
			}
			t, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			return a.each(args[1:], func(name string) error {
				_, err := c.vms.DetachNIC(ctx, &vmletv1.DetachNICRequest{Vm: t.sandbox.GetId(), Name: name, WaitMs: wait.Milliseconds()})
				return err
			})
		}),
	}
	cmd.Flags().DurationVar(&wait, "wait", 0, "`TIME` to wait for the guest (default 30s)")
	return cmd
}
