// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	defaultAddress = "/run/vmlet/vmlet.sock" // vmlet's own default for "listen"
	addressEnv     = "VMLET_ADDRESS"
)

// The groups of the list of commands.
const (
	groupPods   = "pods"
	groupImages = "images"
	groupDisks  = "disks"
	groupNode   = "node"
)

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "vmletctl",
		Short: "Run and look after VM pods on this node",
		Long: `vmletctl runs and looks after VM pods on this node, through vmlet's socket.

A pod is told by its name, by NAMESPACE/NAME, by its ID or by the ID of a container in
it; of an ID its beginning is enough.

Exit codes: 0 it is done; 1 it failed, and one line on stderr says why; 2 the command
line is wrong. "vmletctl exec" exits with the code of the command in the guest.`,
		Example: `  vmletctl run registry.example/debian:12 --name web --ssh-key ~/.ssh/id_ed25519.pub
  vmletctl logs -f web
  vmletctl exec web -- uname -a
  vmletctl rm -f web`,
		Args: subcommand,
		// cobra calls it when it has parsed the flags and judged the arguments.
		PersistentPreRun: func(*cobra.Command, []string) { a.understood = true },
		RunE:             func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceUsage:     true,
		SilenceErrors:    true,
		// Flags before a command are the root's: "vmletctl -a SOCKET ps -a".
		TraverseChildren:           true,
		SuggestionsMinimumDistance: 2,
	}
	a.output = formatTable
	flags := root.PersistentFlags()
	a.addressFlag(flags, "a")
	flags.DurationVar(&a.timeout, "timeout", 0, "give up after this `TIME`, such as 30s (default: wait as long as it takes)")
	flags.VarP(&a.output, "output", "o", "table, json or yaml")
	completeFormats(root)

	root.AddGroup(&cobra.Group{ID: groupPods, Title: "Pods:"}, &cobra.Group{ID: groupImages, Title: "Images:"},
		&cobra.Group{ID: groupDisks, Title: "Disks:"}, &cobra.Group{ID: groupNode, Title: "Node:"})
	for _, cmd := range []*cobra.Command{
		a.runCommand(), a.psCommand(), a.inspectCommand(), a.logsCommand(), a.execCommand(), a.stopCommand(), a.rmCommand(),
		a.rebootCommand(), a.pauseCommand(), a.resumeCommand(), a.powerCommand(), a.resizeCommand(),
		a.snapshotCommand(), a.operationsCommand(), a.checkpointCommand(), a.restoreCommand(), a.nicCommand(), a.guestCommand(),
		a.consoleCommand(), a.screenshotCommand(), a.vncCommand(), a.eventsCommand(), a.capabilitiesCommand(),
	} {
		cmd.GroupID = groupPods
		root.AddCommand(cmd)
	}
	images := a.imageCommand()
	images.GroupID = groupImages
	root.AddCommand(images)
	disks := a.diskCommand()
	disks.GroupID = groupDisks
	root.AddCommand(disks)
	for _, cmd := range []*cobra.Command{a.doctorCommand(), a.versionCommand()} {
		cmd.GroupID = groupNode
		root.AddCommand(cmd)
	}
	a.completeNames(root)
	return root
}

// addressFlag defines --address. A command that needs the letter for itself defines it
// again without one, in place of the root's.
func (a *app) addressFlag(flags *pflag.FlagSet, letter string) {
	flags.StringVarP(&a.address, "address", letter, cmp.Or(a.env(addressEnv), defaultAddress),
		"unix `SOCKET` of vmlet; its default is also taken from "+addressEnv)
}
