// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// powerOffView is what is told of a poweroff. Its JSON is for programs: keys are added, none changes.
type powerOffView struct {
	Pod       string `json:"pod"`
	Container string `json:"container"` // held or exits
	Forced    bool   `json:"forced"`
}

// powerOffModes are the modes by what a user calls them.
var powerOffModes = map[string]vmletv1.PowerOffMode{
	"guest":            vmletv1.PowerOffMode_POWER_OFF_MODE_GUEST,
	"guest-then-force": vmletv1.PowerOffMode_POWER_OFF_MODE_GUEST_THEN_FORCE,
	"force":            vmletv1.PowerOffMode_POWER_OFF_MODE_FORCE,
}

func (a *app) powerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "power",
		Short: "Power a VM off and on",
		Long:  `Powers a VM off while the pod keeps its disks, network, NICs and snapshots, and on again.`,
		Args:  subcommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },

		SuggestionsMinimumDistance: 2,
	}
	cmd.AddCommand(a.powerOffCommand(), a.powerOnCommand())
	return cmd
}

func (a *app) powerOffCommand() *cobra.Command {
	var mode string
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "off POD",
		Short: "End a VM's guest and keep the VM",
		Long: `Powers a VM off, and says what became of the pod's container: "held" goes on as running
until "vmletctl power on", "exits" has ended. The pod's annotation vmlet.io/power-off
says which, and "held" is the default.`,
		Example: `  vmletctl power off web
  vmletctl power off --mode guest-then-force --wait 30s web   # pull the plug if it takes longer`,
		Args: cobra.ExactArgs(1),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			way, known := powerOffModes[mode]
			if !known {
				return usageError{"vmletctl power off", fmt.Errorf("--mode %q is neither guest, guest-then-force nor force", mode)}
			}
			if wait < 0 {
				return usageError{"vmletctl power off", fmt.Errorf("--wait must not be negative")}
			}
			t, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			resp, err := c.vms.PowerOff(ctx, &vmletv1.PowerOffRequest{Vm: t.sandbox.GetId(), Mode: way, WaitMs: wait.Milliseconds()})
			if err != nil {
				return err
			}
			v := powerOffView{
				Pod: t.String(), Container: strings.ToLower(strings.TrimPrefix(resp.GetPolicy().String(), "POWER_OFF_POLICY_")), Forced: resp.GetForced(),
			}
			return a.print(v, func(w io.Writer) {
				row(w, "POD", "CONTAINER", "FORCED")
				row(w, v.Pod, v.Container, strconv.FormatBool(v.Forced))
			})
		}),
	}
	cmd.Flags().StringVar(&mode, "mode", "guest", "guest, guest-then-force, or force: what is not written is lost")
	cmd.Flags().DurationVar(&wait, "wait", 0, "`TIME` that the guest may take (default 2m)")
	return cmd
}

func (a *app) powerOnCommand() *cobra.Command {
	var paused bool
	cmd := &cobra.Command{
		Use:     "on POD...",
		Short:   "Boot VMs that were powered off",
		Long:    `Boots VMs again after "vmletctl power off", and does not wait for their guests.`,
		Example: `  vmletctl power on web`,
		Args:    cobra.MinimumNArgs(1),
		RunE: a.eachVM(func(ctx context.Context, c *client, id string) error {
			_, err := c.vms.PowerOn(ctx, &vmletv1.PowerOnRequest{Vm: id, Paused: paused})
			return err
		}),
	}
	cmd.Flags().BoolVar(&paused, "paused", false, "leave the guest paused until \"vmletctl resume\"")
	return cmd
}
