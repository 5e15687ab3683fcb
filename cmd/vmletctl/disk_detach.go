// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

func (a *app) diskDetachCommand() *cobra.Command {
	var remove bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "detach POD NAME",
		Short: "Take a disk from a VM",
		Long: `Takes a disk from the VM of a pod, and waits until the guest has let go of it. Unmount it
there first. The file of a disk by size is kept, and "vmletctl disk attach" of that name
brings it back, until the pod's sandbox is removed. A file or device of the node is kept
in any case.`,
		Example: `  vmletctl disk detach web data
  vmletctl disk detach web scratch --delete   # with all that is on it`,
		Args: cobra.ExactArgs(2),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			if wait < 0 {
				return usageError{"vmletctl disk detach", fmt.Errorf("--wait must not be negative")}
			}
			t, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			return a.each(args[1:], func(name string) error {
				_, err := c.vms.DetachDisk(ctx, &vmletv1.DetachDiskRequest{
					Vm: t.sandbox.GetId(), Name: name, Delete: remove, WaitMs: wait.Milliseconds(),
				})
				return err
			})
		}),
	}
	cmd.Flags().BoolVar(&remove, "delete", false, "remove a disk by size with all that is on it")
	cmd.Flags().DurationVar(&wait, "wait", 0, "`TIME` to wait for the guest, at most 3m (default 30s)")
	return cmd
}
