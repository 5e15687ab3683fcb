// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func (a *app) imageRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rm IMAGE...",
		Short: "Remove images from this node",
		Long: `Removes images, told by a name or an ID, with all their names. An image is kept as long
as the disk of a pod is based on it.`,
		Example: `  vmletctl image rm debian:12`,
		Args:    cobra.MinimumNArgs(1),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			return a.each(args, func(ref string) error { return c.removeImage(ctx, ref) })
		}),
	}
}

// removeImage tells of an image that is not there; the CRI's RemoveImage does not.
func (c *client) removeImage(ctx context.Context, ref string) error {
	spec := &runtimeapi.ImageSpec{Image: ref}
	found, err := c.images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: spec})
	if err != nil {
		return err
	}
	if found.GetImage() == nil {
		return fmt.Errorf("there is no image %q; list them: vmletctl image ls", ref)
	}
	_, err = c.images.RemoveImage(ctx, &runtimeapi.RemoveImageRequest{Image: spec})
	return err
}
