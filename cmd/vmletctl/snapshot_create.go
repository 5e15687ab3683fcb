// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

func (a *app) snapshotCreateCommand() *cobra.Command {
	var req vmletv1.CreateSnapshotRequest
	var detach bool
	cmd := &cobra.Command{
		Use:   "create POD NAME",
		Short: "Take a snapshot of a VM",
		Long: `Takes a snapshot of the root disk of a VM with the disks that were attached by size, and with
--memory of its memory too, all of one moment, and prints what was taken. Disks by path, and all
data disks beside a persistent root disk, are LEFT OUT. The guest runs on meanwhile, but for the
PAUSE. With --quiesce its file systems are whole in it. With --detach it does not wait, and prints the operation: see "vmletctl operations".`,
		Example: `  vmletctl snapshot create web before-upgrade
  vmletctl snapshot create --quiesce web consistent   # file systems are frozen for the moment
  vmletctl snapshot create --memory web logged-in --description "before the demo"
  vmletctl snapshot create --memory --detach web logged-in`,
		Args: cobra.ExactArgs(2),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			t, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			req.Vm, req.Name, req.Detach = t.sandbox.GetId(), args[1], true
			resp, err := c.vms.CreateSnapshot(ctx, &req)
			if err != nil {
				return err
			}
			snap := resp.GetSnapshot()
			if snap == nil {
				if waited, err := a.begun(ctx, c, resp.GetOperation(), detach); err != nil || !waited {
					return err
				}
				now, err := c.vms.GetSnapshot(ctx, &vmletv1.GetSnapshotRequest{Vm: req.GetVm(), Name: req.GetName()})
				if err != nil {
					return err
				}
				snap = now.GetSnapshot()
			}
			v := snapshotViewOf(snap)
			return a.print(v, func(w io.Writer) { a.snapshotTable(w, v) })
		}),
	}
	cmd.Flags().BoolVar(&req.Memory, "memory", false, "take the memory too: restored, the guest goes on where it was")
	cmd.Flags().BoolVar(&req.Quiesce, "quiesce", false, "have the guest's agent freeze the file systems for the moment")
	cmd.Flags().BoolVar(&detach, "detach", false, "do not wait for its end")
	cmd.Flags().StringVar(&req.Description, "description", "", "`TEXT` that is shown with it")
	return cmd
}
