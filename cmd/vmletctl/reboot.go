// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// rebootView is what is told of a reboot. Its JSON is for programs: keys are added, none changes.
type rebootView struct {
	Pod          string `json:"pod"`
	Mode         string `json:"mode"`
	BootIDBefore string `json:"bootIDBefore,omitempty"`
	BootID       string `json:"bootID,omitempty"`
}

// rebootModes are the modes by what a user calls them, "" for vmlet's choice.
var rebootModes = map[string]vmletv1.RebootMode{
	"":      vmletv1.RebootMode_REBOOT_MODE_UNSPECIFIED,
	"agent": vmletv1.RebootMode_REBOOT_MODE_AGENT,
	"acpi":  vmletv1.RebootMode_REBOOT_MODE_ACPI,
	"reset": vmletv1.RebootMode_REBOOT_MODE_RESET,
}

func (a *app) rebootCommand() *cobra.Command {
	var mode string
	var delay, wait time.Duration
	cmd := &cobra.Command{
		Use:   "reboot POD",
		Short: "Boot a VM's guest anew",
		Long: `Has the guest of a VM boot anew, waits until that was seen, and prints its boot ID. Disks,
addresses and the pod stay. By default its agent is asked, or where none answers the power
button is pressed and the guest booted again once it is off.`,
		Example: `  vmletctl reboot web
  vmletctl reboot --mode reset web   # as by its reset button: what is not written is lost`,
		Args: cobra.ExactArgs(1),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			way, known := rebootModes[mode]
			if !known {
				return usageError{"vmletctl reboot", fmt.Errorf("--mode %q is neither agent, acpi nor reset", mode)}
			}
			if delay < 0 || wait < 0 {
				return usageError{"vmletctl reboot", fmt.Errorf("--delay and --wait must not be negative")}
			}
			t, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			resp, err := c.vms.Reboot(ctx, &vmletv1.RebootRequest{
				Vm: t.sandbox.GetId(), Mode: way, DelayMs: delay.Milliseconds(), WaitMs: wait.Milliseconds(),
			})
			if err != nil {
				return err
			}
			v := rebootViewOf(t, resp)
			return a.print(v, func(w io.Writer) {
				row(w, "POD", "BY", "BOOT ID")
				row(w, v.Pod, v.Mode, cmp.Or(v.BootID, "(no agent tells)"))
			})
		}),
	}
	cmd.Flags().StringVar(&mode, "mode", "", "agent, acpi or reset (default: agent, or acpi where none answers)")
	cmd.Flags().DurationVar(&delay, "delay", 0, "`TIME` to wait before")
	cmd.Flags().DurationVar(&wait, "wait", 0, "`TIME` to wait for the reboot to be seen (default 2m)")
	return cmd
}

func rebootViewOf(t target, resp *vmletv1.RebootResponse) rebootView {
	return rebootView{
		Pod: t.String(), Mode: strings.ToLower(strings.TrimPrefix(resp.GetMode().String(), "REBOOT_MODE_")),
		BootIDBefore: resp.GetBootIdBefore(), BootID: resp.GetBootId(),
	}
}
