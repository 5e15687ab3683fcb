// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

func (a *app) imageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "List, pull, import and remove VM images",
		Args:  subcommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },

		SuggestionsMinimumDistance: 2,
	}
	cmd.AddCommand(a.imageListCommand(), a.imagePullCommand(), a.imageImportCommand(), a.imageRemoveCommand())
	return cmd
}

// imageView is what is told of an image. Its JSON is for programs: keys are added, none
// changes.
type imageView struct {
	ID          string   `json:"id"`
	Names       []string `json:"names"`
	Digests     []string `json:"digests,omitempty"`
	Size        int64    `json:"size"`                  // bytes on the node's disk
	VirtualSize int64    `json:"virtualSize,omitempty"` // bytes that a guest sees
	Format      string   `json:"format,omitempty"`
}

func (a *app) printImages(views []imageView) error {
	return a.print(views, func(w io.Writer) {
		row(w, "NAME", "ID", "SIZE")
		for _, v := range views {
			names := v.Names
			if len(names) == 0 {
				names = append(names, v.Digests...)
			}
			if len(names) == 0 {
				names = []string{""}
			}
			for _, name := range names {
				row(w, name, short(v.ID), size(v.Size))
			}
		}
	})
}

// printImage tells of an image that was just stored.
func (a *app) printImage(img *vmletv1.Image) error {
	v := imageView{
		ID:          img.GetId(),
		Names:       notNil(img.GetRepoTags()),
		Digests:     img.GetRepoDigests(),
		Size:        img.GetSizeBytes(),
		VirtualSize: img.GetVirtualSizeBytes(),
		Format:      diskFormats[img.GetFormat()],
	}
	if a.output == formatTable {
		return a.printImages([]imageView{v})
	}
	return a.print(v, nil)
}

var diskFormats = map[vmletv1.DiskFormat]string{
	vmletv1.DiskFormat_DISK_FORMAT_QCOW2: "qcow2",
	vmletv1.DiskFormat_DISK_FORMAT_RAW:   "raw",
}

// notNil keeps an empty list from being told as null.
func notNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
