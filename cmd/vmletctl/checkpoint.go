// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// checkpointView is what is told of a checkpoint. Its JSON is for programs: keys are added, none changes.
type checkpointView struct {
	ID          string `json:"id"`
	Pod         string `json:"pod"`
	PodID       string `json:"podID"`
	Path        string `json:"path"`
	DiskBytes   int64  `json:"diskBytes"`
	MemoryBytes int64  `json:"memoryBytes"`
	PauseMS     int64  `json:"pauseMS"`
	// DataDisks are in it beside the root disk, and counted in DiskBytes.
	DataDisks []string `json:"dataDisks,omitempty"`
}

func (a *app) checkpointCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "checkpoint POD DIR",
		Short: "Write a VM that runs into a folder",
		Long: `Writes the memory and the disks of a VM into a folder of the node, from which "vmletctl
restore" brings it back. The guest runs on, but for the PAUSE. DATA are the data disks that
are in it, DISK is what they take with the root disk. A VM whose guest can write to disks by
path is refused. DIR is not there yet, or empty, in a folder that the configuration allows
(checkpoints.allowedPaths).`,
		Example: `  vmletctl checkpoint web /var/lib/kubelet/checkpoints/web`,
		Args:    cobra.ExactArgs(2),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			t, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			path, err := filepath.Abs(args[1])
			if err != nil {
				return err
			}
			resp, err := c.checkpoints.CreateCheckpoint(ctx, &vmletv1.CreateCheckpointRequest{Vm: t.sandbox.GetId(), Path: path})
			if err != nil {
				return err
			}
			meta := t.sandbox.GetMetadata()
			v := checkpointView{
				ID: resp.GetCheckpointId(), Pod: meta.GetNamespace() + "/" + meta.GetName(), PodID: resp.GetPodSandboxId(), Path: path,
				DiskBytes: resp.GetDiskBytes(), MemoryBytes: resp.GetMemoryBytes(), PauseMS: resp.GetPauseMs(),
				DataDisks: resp.GetDataDisks(),
			}
			return a.print(v, func(w io.Writer) {
				row(w, "POD", "DISK", "DATA", "MEMORY", "PAUSE", "PATH")
				row(w, v.Pod, size(v.DiskBytes), strings.Join(v.DataDisks, ","), size(v.MemoryBytes), (time.Duration(v.PauseMS) * time.Millisecond).String(), v.Path)
			})
		}),
	}
}
