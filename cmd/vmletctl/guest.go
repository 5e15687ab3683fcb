// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"
)

func (a *app) guestCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "guest",
		Short: "Look into a guest, and change files, keys and passwords in it",
		Long: `Asks the agent in a VM's guest: vmlet-agent, or qemu-guest-agent for what that can do. A guest
that still boots is waited for.`,
		Args: subcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },

		SuggestionsMinimumDistance: 2,
	}
	cmd.AddCommand(a.guestInfoCommand(), a.guestFileCommand(), a.guestKeysCommand(), a.guestPasswdCommand())
	return cmd
}
