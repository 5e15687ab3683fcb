// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

func (a *app) snapshotRemoveCommand() *cobra.Command {
	var detach bool
	cmd := &cobra.Command{
		Use:   "rm POD NAME...",
		Short: "Delete snapshots of a VM",
		Long: `Deletes snapshots of a VM, in any order and whatever the VM is doing. Snapshots that were
taken later stay as they are. With --detach it does not wait until their room is given back, and
prints the operations: see "vmletctl operations".`,
		Example: `  vmletctl snapshot rm web before-upgrade`,
		Args:    cobra.MinimumNArgs(2),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			t, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			if detach {
				return a.detachDeletions(ctx, c, t.sandbox.GetId(), args[1:])
			}
			return a.each(args[1:], func(name string) error {
				resp, err := c.vms.DeleteSnapshot(ctx, &vmletv1.DeleteSnapshotRequest{Vm: t.sandbox.GetId(), Name: name, Detach: true})
				if err != nil {
					return err
				}
				_, err = a.begun(ctx, c, resp.GetOperation(), false)
				return err
			})
		}),
	}
	cmd.Flags().BoolVar(&detach, "detach", false, "do not wait for their end")
	return cmd
}

// detachDeletions begins to delete snapshots, and prints the operations. Each waits for the one before.
func (a *app) detachDeletions(ctx context.Context, c *client, id string, names []string) error {
	views := []operationView{}
	var errs []error
	for _, name := range names {
		resp, err := c.vms.DeleteSnapshot(ctx, &vmletv1.DeleteSnapshotRequest{Vm: id, Name: name, Detach: true})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if o := resp.GetOperation(); o != nil {
			views = append(views, operationViewOf(o))
		}
	}
	return errors.Join(append(errs, a.print(views, func(w io.Writer) { a.operationTable(w, views...) }))...)
}
