// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

func (a *app) diskRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rm DISK...",
		Short: "Remove persistent disks with all that is on them",
		Long: `Removes persistent disks, told by their whole names, with all that is on them, and their
snapshots. A disk that a pod uses is kept: stop the pod first.`,
		Example: `  vmletctl disk rm claim/shop/data/vm`,
		Args:    cobra.MinimumNArgs(1),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			return a.each(args, func(name string) error {
				_, err := c.disks.RemoveDisk(ctx, &vmletv1.RemoveDiskRequest{Name: name})
				return err
			})
		}),
	}
}
