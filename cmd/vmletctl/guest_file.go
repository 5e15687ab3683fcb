// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"
)

func (a *app) guestFileCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "file",
		Short: "Copy files out of a guest and into it",
		Example: `  vmletctl guest file get web /etc/os-release -
  vmletctl guest file put web motd /etc/motd`,
		Args: subcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },

		SuggestionsMinimumDistance: 2,
	}
	cmd.AddCommand(a.guestFileGetCommand(), a.guestFilePutCommand())
	return cmd
}
