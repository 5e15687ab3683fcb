// SPDX-License-Identifier: Apache-2.0

// Command vmlet is the daemon: it serves CRI on a unix socket and runs each pod sandbox
// as one libvirt domain.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/vmlet/vmlet/pkg/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	err := rootCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vmlet:", err)
		os.Exit(1)
	}
}

func rootCommand() *cobra.Command {
	var opts options
	root := &cobra.Command{
		Use:   "vmlet",
		Short: "The CRI runtime that runs pods as virtual machines",
		Long: `vmlet serves CRI on a unix socket and runs each pod sandbox as one libvirt domain.

Without a subcommand it runs the daemon: SIGHUP reloads the configuration, SIGTERM
ends it after the calls under way, a second one at once. VMs run on without it.`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := opts.load()
			if err != nil {
				return err
			}
			return runDaemon(cmd.Context(), c, opts.load)
		},
	}
	opts.flags(root.PersistentFlags())
	root.AddCommand(configCommand(), doctorCommand(&opts), versionCommand())
	return root
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintf(cmd.OutOrStdout(), "vmlet %s (%s)\n", version.Version, version.Commit)
		},
	}
}
