// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// screenshotView is what is told of a screenshot. Its JSON is for programs: keys are added, none changes.
type screenshotView struct {
	Pod    string `json:"pod"`
	File   string `json:"file"`
	Width  int32  `json:"width"`
	Height int32  `json:"height"`
}

func (a *app) screenshotCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "screenshot POD [FILE|-]",
		Short: "Take a picture of a VM's screen",
		Long: `Writes what a VM's screen shows to a PNG file: by default the pod's name with .png, in the
present folder. FILE may be - for stdout.`,
		Example: `  vmletctl screenshot web
  vmletctl screenshot web - | display`,
		Args: cobra.RangeArgs(1, 2),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			if len(args) == 2 && args[1] == "-" && isTerminal(a.out) {
				return usageError{"vmletctl screenshot", errors.New("a picture is not for a terminal: give a file")}
			}
			t, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			resp, err := c.vms.Screenshot(ctx, &vmletv1.ScreenshotRequest{Vm: t.sandbox.GetId()})
			if err != nil {
				return err
			}
			if len(args) == 2 && args[1] == "-" {
				_, err := a.out.Write(resp.GetPng())
				return err
			}
			file := filepath.Base(t.sandbox.GetMetadata().GetName()) + ".png"
			if len(args) == 2 {
				file = args[1]
			}
			if err := os.WriteFile(file, resp.GetPng(), 0o600); err != nil { // a screen may show secrets
				return err
			}
			v := screenshotView{Pod: t.String(), File: file, Width: resp.GetWidth(), Height: resp.GetHeight()}
			return a.print(v, func(w io.Writer) {
				row(w, "POD", "FILE", "SIZE")
				row(w, v.Pod, v.File, fmt.Sprintf("%dx%d", v.Width, v.Height))
			})
		}),
	}
}
