// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

func (a *app) snapshotRestoreCommand() *cobra.Command {
	var req vmletv1.RestoreSnapshotRequest
	var detach bool
	cmd := &cobra.Command{
		Use:   "restore POD NAME",
		Short: "Put a VM back to a snapshot",
		Long: `Puts a VM back to a snapshot. What the disks in it have become since is gone, unless another
snapshot has it. With memory the guest goes on where it was, without it boots; a VM that is off finds
its disk changed when it is next started. With --detach it does not wait, and prints the
operation: see "vmletctl operations".`,
		Example: `  vmletctl snapshot restore web before-upgrade
  vmletctl snapshot restore --disk-only web logged-in   # boot anew from its disk`,
		Args: cobra.ExactArgs(2),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			t, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			req.Vm, req.Name, req.Detach = t.sandbox.GetId(), args[1], true
			resp, err := c.vms.RestoreSnapshot(ctx, &req)
			if err != nil {
				return err
			}
			if waited, err := a.begun(ctx, c, resp.GetOperation(), detach); err != nil || !waited {
				return err
			}
			fmt.Fprintln(a.out, args[0])
			return nil
		}),
	}
	cmd.Flags().BoolVar(&req.Paused, "paused", false, "leave the guest paused until \"vmletctl resume\"")
	cmd.Flags().BoolVar(&req.DiskOnly, "disk-only", false, "leave the snapshot's memory aside and boot from its disk")
	cmd.Flags().BoolVar(&detach, "detach", false, "do not wait for its end")
	return cmd
}
