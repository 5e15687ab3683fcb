// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) psCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "List VM pods",
		Long: `Lists the VM pods of this node with the state of their VM. A pod whose guest has powered
itself off is listed until it is stopped; stopped ones are listed by -a.`,
		Example: `  vmletctl ps
  vmletctl ps -a -o json`,
		Args: cobra.NoArgs,
		RunE: a.connected(func(ctx context.Context, c *client, _ []string) error {
			pods, err := c.pods(ctx)
			if err != nil {
				return err
			}
			if !all {
				pods = slices.DeleteFunc(pods, func(p pod) bool { return !p.ready() && !p.running() })
			}
			views, err := c.views(ctx, pods)
			if err != nil {
				return err
			}
			return a.printPods(views)
		}),
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "list stopped pods too")
	a.addressFlag(cmd.Flags(), "")
	return cmd
}

func (a *app) printPods(views []podView) error {
	return a.print(views, func(w io.Writer) {
		tenants := slices.ContainsFunc(views, func(v podView) bool { return v.Tenant != "" })
		head := []string{"NAMESPACE", "NAME", "STATE", "AGE", "IP", "IMAGE", "POD", "CONTAINER"}
		if tenants {
			head = slices.Insert(head, 0, "TENANT")
		}
		row(w, head...)
		for _, v := range views {
			boot := containerView{}
			if v.Container != nil {
				boot = *v.Container
			}
			cells := []string{
				v.Namespace, v.Name, v.state(), age(a.now(), v.CreatedAt), strings.Join(v.IPs, ","),
				boot.Image, short(v.PodID), short(boot.ID),
			}
			if tenants {
				cells = slices.Insert(cells, 0, v.Tenant)
			}
			row(w, cells...)
		}
	})
}
