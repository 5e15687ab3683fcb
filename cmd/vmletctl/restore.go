// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// restoredView is what is told of a pod that was restored. Its JSON is for programs: keys are added, none changes.
type restoredView struct {
	Pod         string `json:"pod"`
	PodID       string `json:"podID"`
	ContainerID string `json:"containerID"`
	Started     bool   `json:"started"`
}

func (a *app) restoreCommand() *cobra.Command {
	stay := false
	cmd := &cobra.Command{
		Use:   "restore DIR",
		Short: "Bring a VM back from a folder",
		Long: `Makes of a checkpoint the pod that it was taken of, and starts it: the guest goes on where it
was. The pod and its VM are gone by then, and its image is on the node. The folder stays as
it is.`,
		Example: `  vmletctl restore /var/lib/kubelet/checkpoints/web`,
		Args:    cobra.ExactArgs(1),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			path, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			v, err := c.restore(ctx, path, !stay)
			if err != nil {
				return err
			}
			return a.print(v, func(w io.Writer) {
				row(w, "POD", "ID", "CONTAINER")
				row(w, v.Pod, v.PodID, v.ContainerID)
			})
		}),
	}
	cmd.Flags().BoolVar(&stay, "created", false, "leave the container created: \"crictl start\" has the guest go on")
	return cmd
}

// restore brings a pod back, or leaves nothing of it.
func (c *client) restore(ctx context.Context, path string, start bool) (restoredView, error) {
	resp, err := c.checkpoints.RestoreCheckpoint(ctx, &vmletv1.RestoreCheckpointRequest{Path: path})
	if err != nil {
		return restoredView{}, err
	}
	v := restoredView{
		Pod: resp.GetPodNamespace() + "/" + resp.GetPodName(), PodID: resp.GetPodSandboxId(), ContainerID: resp.GetContainerId(), Started: start,
	}
	if !start {
		return v, nil
	}
	if _, err := c.runtime.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: v.ContainerID}); err != nil {
		later, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
		defer cancel()
		return v, errors.Join(err, c.removeSandbox(later, v.PodID))
	}
	return v, nil
}
