// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"
)

func (a *app) diskCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "disk",
		Short: "Look after disks of VMs, and persistent disks",
		Args:  subcommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },

		SuggestionsMinimumDistance: 2,
	}
	cmd.AddCommand(a.diskListCommand(), a.diskRemoveCommand(), a.diskAttachCommand(), a.diskDetachCommand(), a.diskResizeCommand())
	return cmd
}
