// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"slices"

	"github.com/spf13/cobra"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func (a *app) imageListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Short:   "List the images on this node",
		Long:    `Lists the images on this node, a line for each name of an image.`,
		Example: `  vmletctl image ls -o json`,
		Args:    cobra.NoArgs,
		RunE: a.connected(func(ctx context.Context, c *client, _ []string) error {
			resp, err := c.images.ListImages(ctx, &runtimeapi.ListImagesRequest{})
			if err != nil {
				return err
			}
			views := make([]imageView, len(resp.GetImages()))
			for i, img := range resp.GetImages() {
				names := slices.Sorted(slices.Values(img.GetRepoTags()))
				views[i] = imageView{ID: img.GetId(), Names: notNil(names), Digests: img.GetRepoDigests(), Size: int64(img.GetSize())}
			}
			slices.SortFunc(views, func(a, b imageView) int {
				return cmp.Or(slices.Compare(a.Names, b.Names), cmp.Compare(a.ID, b.ID))
			})
			return a.printImages(views)
		}),
	}
}
