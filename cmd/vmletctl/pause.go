// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

func (a *app) pauseCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pause POD...",
		Short: "Halt the CPUs of VMs",
		Long: `Halts the CPUs of VMs until "vmletctl resume". Memory, addresses and connections stay, and
nothing in the guest answers: a liveness probe will fail.`,
		Example: `  vmletctl pause web`,
		Args:    cobra.MinimumNArgs(1),
		RunE: a.eachVM(func(ctx context.Context, c *client, id string) error {
			_, err := c.vms.Pause(ctx, &vmletv1.PauseRequest{Vm: id})
			return err
		}),
	}
}
