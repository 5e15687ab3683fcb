// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// capabilityView is a capability. Its JSON is for programs: keys are added, none changes.
type capabilityView struct {
	Name      string `json:"name"`
	Available bool   `json:"available"`
	WhyNot    string `json:"whyNot,omitempty"`
}

func (a *app) capabilitiesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "capabilities [POD]",
		Short: "Tell what can be done to VMs, and why not",
		Long: `Tells what can be done to VMs on this node, or now to the VM of a pod, and why not: by the
host, by libvirt and QEMU, by the gates of vmlet's configuration, and by the guest.`,
		Example: `  vmletctl capabilities web
  vmletctl capabilities -o json | jq -r '.[] | select(.available) | .name'`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			req := &vmletv1.CapabilitiesRequest{}
			if len(args) > 0 {
				t, err := c.find(ctx, args[0])
				if err != nil {
					return err
				}
				req.Vm = t.sandbox.GetId()
			}
			resp, err := c.vms.Capabilities(ctx, req)
			if err != nil {
				return err
			}
			views := make([]capabilityView, len(resp.GetCapabilities()))
			for i, one := range resp.GetCapabilities() {
				views[i] = capabilityView{one.GetName(), one.GetAvailable(), one.GetWhyNot()}
			}
			return a.print(views, func(w io.Writer) {
				row(w, "CAPABILITY", "AVAILABLE", "WHY NOT")
				for _, v := range views {
					available := "no"
					if v.Available {
						available = "yes"
					}
					row(w, v.Name, available, v.WhyNot)
				}
			})
		}),
	}
}
