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

// toldOfCheckpoint is what vmlet tells of a checkpoint: when it has made it, and when it is asked.
type toldOfCheckpoint interface {
	GetCheckpointId() string
	GetPodSandboxId() string
	GetDiskBytes() int64
	GetMemoryBytes() int64
	GetPauseMs() int64
	GetDataDisks() []string
}

func (a *app) checkpointCommand() *cobra.Command {
	var detach bool
	cmd := &cobra.Command{
		Use:   "checkpoint POD DIR",
		Short: "Write a VM that runs into a folder",
		Long: `Writes the memory and the disks of a VM into a folder of the node, from which "vmletctl
restore" brings it back. The guest runs on, but for the PAUSE. DATA are the data disks that
are in it, DISK is what they take with the root disk. A VM whose guest can write to disks by
path is refused. DIR is not there yet, or empty, in a folder that the configuration allows
(checkpoints.allowedPaths). It goes on when this command is ended; "vmletctl operations cancel"
ends it, and nothing is left. With --detach it does not wait, and prints the operation.`,
		Example: `  vmletctl checkpoint web /var/lib/kubelet/checkpoints/web
  vmletctl checkpoint --detach web /var/lib/kubelet/checkpoints/web`,
		Args: cobra.ExactArgs(2),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			t, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			path, err := filepath.Abs(args[1])
			if err != nil {
				return err
			}
			resp, err := c.checkpoints.CreateCheckpoint(ctx, &vmletv1.CreateCheckpointRequest{Vm: t.sandbox.GetId(), Path: path, Detach: true})
			if err != nil {
				return err
			}
			if waited, err := a.begun(ctx, c, resp.GetOperation(), detach); err != nil || !waited {
				return err
			}
			var told toldOfCheckpoint = resp // by a vmlet that knows no operation of it
			if resp.GetOperation() != nil {
				if told, err = c.checkpoints.GetCheckpoint(ctx, &vmletv1.GetCheckpointRequest{Path: path}); err != nil {
					return err
				}
			}
			meta := t.sandbox.GetMetadata()
			v := checkpointView{
				ID: told.GetCheckpointId(), Pod: meta.GetNamespace() + "/" + meta.GetName(), PodID: told.GetPodSandboxId(), Path: path,
				DiskBytes: told.GetDiskBytes(), MemoryBytes: told.GetMemoryBytes(), PauseMS: told.GetPauseMs(),
				DataDisks: told.GetDataDisks(),
			}
			return a.print(v, func(w io.Writer) {
				row(w, "POD", "DISK", "DATA", "MEMORY", "PAUSE", "PATH")
				row(w, v.Pod, size(v.DiskBytes), strings.Join(v.DataDisks, ","), size(v.MemoryBytes), (time.Duration(v.PauseMS) * time.Millisecond).String(), v.Path)
			})
		}),
	}
	cmd.Flags().BoolVar(&detach, "detach", false, "do not wait for its end")
	return cmd
}
