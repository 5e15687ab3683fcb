// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// resizeView is what is told of a resized disk. Its JSON is for programs: keys are added, none changes.
type resizeView struct {
	Pod        string `json:"pod"`
	Name       string `json:"name"`
	SizeBefore int64  `json:"sizeBefore"` // bytes that a guest saw
	Size       int64  `json:"size"`       // bytes that it sees
	// FileSystem is grown, skipped or failed, "" where that was not asked for.
	FileSystem string `json:"fileSystem,omitempty"`
	Detail     string `json:"detail,omitempty"`
}

func (a *app) diskResizeCommand() *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "resize POD NAME [SIZE]",
		Short: "Make a disk of a VM bigger",
		Long: `Makes a disk of a pod's VM bigger, "root" for the one that it boots from, and has the guest's
agent grow the file system on it. Disks never shrink. Without SIZE, a block device that has
grown is told to the guest.`,
		Example: `  vmletctl disk resize web data 20G
  vmletctl disk resize web root 40G --keep-file-system`,
		Args: cobra.RangeArgs(2, 3),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			var want byteCount
			if len(args) == 3 {
				if err := want.Set(args[2]); err != nil {
					return usageError{"vmletctl disk resize", err}
				}
			}
			t, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			resp, err := c.vms.ResizeDisk(ctx, &vmletv1.ResizeDiskRequest{
				Vm: t.sandbox.GetId(), Name: args[1], SizeBytes: int64(want), GrowFileSystem: !keep,
			})
			if err != nil {
				return err
			}
			v := resizeViewOf(t, args[1], resp)
			return a.print(v, func(w io.Writer) {
				row(w, "POD", "NAME", "BEFORE", "SIZE", "FILE SYSTEM", "DETAIL")
				row(w, v.Pod, v.Name, size(v.SizeBefore), size(v.Size), v.FileSystem, v.Detail)
			})
		}),
	}
	cmd.Flags().BoolVar(&keep, "keep-file-system", false, "leave the file system on the disk as it is")
	return cmd
}

func resizeViewOf(t target, name string, resp *vmletv1.ResizeDiskResponse) resizeView {
	v := resizeView{
		Pod: t.String(), Name: name, SizeBefore: resp.GetSizeBytesBefore(), Size: resp.GetSizeBytes(), Detail: resp.GetFileSystemDetail(),
	}
	if resp.GetFileSystem() != vmletv1.FileSystemGrowth_FILE_SYSTEM_GROWTH_UNSPECIFIED {
		v.FileSystem = word(resp.GetFileSystem().String(), "FILE_SYSTEM_GROWTH_")
	}
	return v
}

// word is what people call a value of an enum.
func word(value, prefix string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(value, prefix), "_", " "))
}
