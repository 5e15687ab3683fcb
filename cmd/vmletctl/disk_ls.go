// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// diskView is what is told of a disk. Its JSON is for programs: keys are added, none changes.
type diskView struct {
	Name      string    `json:"name"`
	Namespace string    `json:"namespace"`
	Claim     string    `json:"claim,omitempty"`
	PodUID    string    `json:"podUID,omitempty"`
	Container string    `json:"container"`
	ImageID   string    `json:"imageID"`
	Size      int64     `json:"size"` // bytes that a guest sees
	Used      int64     `json:"used"` // bytes on the node's disk
	Path      string    `json:"path"`
	CreatedAt time.Time `json:"createdAt"`
	// Holder is the pod that uses it, nil for none.
	Holder   *holderView `json:"holder,omitempty"`
	Removing bool        `json:"removing,omitempty"`
	// Snapshots are the disk's own, oldest first. Layers are all the files of it and of them, the one that is written first.
	Snapshots []snapshotView `json:"snapshots,omitempty"`
	Layers    []layerView    `json:"layers,omitempty"`
}

type holderView struct {
	PodID     string `json:"podID"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

func (a *app) diskListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ls [POD]",
		Short: "List the persistent disks on this node, or the disks of a VM",
		Long: `Lists the persistent disks on this node, oldest first, with the number of their snapshots and
the pod that uses each. A pod has one by its annotation "vmlet.io/root-disk: persistent".

With a POD, lists the disks of its VM: the root disk, the seed of cloud-init, and those that
were attached.`,
		Example: `  vmletctl disk ls
  vmletctl disk ls web
  vmletctl disk ls -o json | jq -r '.[] | select(.holder == null) | .name'
  vmletctl disk ls -o json | jq -r '.[] | .name as $disk | .snapshots[]? | $disk + " " + .name'`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			if len(args) == 1 {
				return a.listDisksOf(ctx, c, args[0])
			}
			resp, err := c.disks.ListDisks(ctx, &vmletv1.ListDisksRequest{})
			if err != nil {
				return err
			}
			views := make([]diskView, len(resp.GetDisks()))
			for i, d := range resp.GetDisks() {
				views[i] = diskViewOf(d)
			}
			return a.print(views, func(w io.Writer) {
				row(w, "NAME", "IMAGE", "SIZE", "USED", "SNAPSHOTS", "AGE", "POD")
				for _, v := range views {
					row(w, v.Name, short(v.ImageID), size(v.Size), size(v.Used), strconv.Itoa(len(v.Snapshots)), age(a.now(), v.CreatedAt), v.user())
				}
			})
		}),
	}
}

func diskViewOf(d *vmletv1.Disk) diskView {
	v := diskView{
		Name:      d.GetName(),
		Namespace: d.GetNamespace(),
		Claim:     d.GetClaim(),
		PodUID:    d.GetPodUid(),
		Container: d.GetContainer(),
		ImageID:   d.GetImageId(),
		Size:      d.GetSizeBytes(),
		Used:      d.GetUsedBytes(),
		Path:      d.GetPath(),
		CreatedAt: time.Unix(0, d.GetCreatedAt()).UTC(),
		Removing:  d.GetRemoving(),
	}
	if h := d.GetHolder(); h != nil {
		v.Holder = &holderView{PodID: h.GetPodSandboxId(), Namespace: h.GetNamespace(), Name: h.GetName()}
	}
	for _, snap := range d.GetSnapshots() {
		v.Snapshots = append(v.Snapshots, snapshotViewOf(snap))
	}
	v.Layers = layerViews(d.GetLayers())
	return v
}

// user is who uses the disk, for a table.
func (v diskView) user() string {
	switch {
	case v.Removing:
		return "(being removed)"
	case v.Holder == nil:
		return ""
	}
	return v.Holder.Namespace + "/" + v.Holder.Name
}
