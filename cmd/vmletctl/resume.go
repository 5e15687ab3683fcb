// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

func (a *app) resumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "resume POD...",
		Short:   "Let paused VMs go on",
		Long:    `Lets VMs go on after "vmletctl pause".`,
		Example: `  vmletctl resume web`,
		Args:    cobra.MinimumNArgs(1),
		RunE: a.eachVM(func(ctx context.Context, c *client, id string) error {
			_, err := c.vms.Resume(ctx, &vmletv1.ResumeRequest{Vm: id})
			return err
		}),
	}
}
