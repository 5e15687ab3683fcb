// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// snapshotView is what is told of a snapshot. Its JSON is for programs: keys are added, none changes.
type snapshotView struct {
	Name        string    `json:"name"`
	PodID       string    `json:"podID"`
	Description string    `json:"description,omitempty"`
	State       string    `json:"state"` // creating, ready or deleting
	CreatedAt   time.Time `json:"createdAt"`
	Parent      string    `json:"parent,omitempty"`
	Current     bool      `json:"current"`
	ContainerID string    `json:"containerID,omitempty"`
	Consistency string    `json:"consistency"` // crash, file-system, memory or off
	PauseMS     int64     `json:"pauseMS"`
	Memory      bool      `json:"memory"`
	MemoryBytes int64     `json:"memoryBytes,omitempty"`
	MemoryGone  bool      `json:"memoryGone,omitempty"` // with the pod's sandbox: of a persistent disk's
	DiskSize    int64     `json:"diskSize"`             // bytes that a guest sees
	DiskUsed    int64     `json:"diskUsed"`             // bytes on the node's disk, above the parent's
	// DataDisks are in it beside the root disk; the guest could write to those LeftOut, too.
	DataDisks []snapshotDiskView `json:"dataDisks,omitempty"`
	LeftOut   []string           `json:"leftOut,omitempty"`
}

type snapshotDiskView struct {
	Name string `json:"name"`
	Size int64  `json:"size"` // bytes that a guest sees
}

// dataNames are the data disks that are in a snapshot.
func (v snapshotView) dataNames() string {
	names := make([]string, len(v.DataDisks))
	for i, d := range v.DataDisks {
		names[i] = d.Name
	}
	return strings.Join(names, ",")
}

func (a *app) snapshotCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Take, list, restore and delete snapshots of a VM",
		Long: `Takes snapshots of a VM's disks and memory, and puts the VM back to them. The disks are the root
disk and those that were attached by size. Snapshots go with their pod, but those of a persistent
disk, which the pods that use it in turn find.`,
		Example: `  vmletctl snapshot create web before-upgrade
  vmletctl snapshot restore web before-upgrade
  vmletctl snapshot rm web before-upgrade`,
		Args: subcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },

		SuggestionsMinimumDistance: 2,
	}
	cmd.AddCommand(a.snapshotCreateCommand(), a.snapshotListCommand(), a.snapshotInspectCommand(), a.snapshotRestoreCommand(), a.snapshotRemoveCommand())
	return cmd
}

func (a *app) snapshotListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ls POD",
		Short: "List the snapshots of a VM",
		Long: `Lists the snapshots of a VM, oldest first. CURRENT is the one that the VM was at last, by
taking or restoring it. DATA are the data disks that are in it, LEFT OUT those that the guest
could write to and that are not.`,
		Example: `  vmletctl snapshot ls web`,
		Args:    cobra.ExactArgs(1),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			t, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			resp, err := c.vms.ListSnapshots(ctx, &vmletv1.ListSnapshotsRequest{Vm: t.sandbox.GetId()})
			if err != nil {
				return err
			}
			views := make([]snapshotView, len(resp.GetSnapshots()))
			for i, snap := range resp.GetSnapshots() {
				views[i] = snapshotViewOf(snap)
			}
			return a.print(views, func(w io.Writer) { a.snapshotTable(w, views...) })
		}),
	}
}

func (a *app) snapshotInspectCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "inspect POD NAME",
		Short:   "Show all that is known of a snapshot",
		Example: `  vmletctl snapshot inspect web before-upgrade`,
		Args:    cobra.ExactArgs(2),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			t, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			resp, err := c.vms.GetSnapshot(ctx, &vmletv1.GetSnapshotRequest{Vm: t.sandbox.GetId(), Name: args[1]})
			if err != nil {
				return err
			}
			v := snapshotViewOf(resp.GetSnapshot())
			return a.print(v, func(w io.Writer) { v.details(w) })
		}),
	}
}

func (a *app) snapshotTable(w io.Writer, views ...snapshotView) {
	row(w, "NAME", "CURRENT", "PARENT", "CONSISTENCY", "DISK", "DATA", "LEFT OUT", "MEMORY", "PAUSE", "AGE", "DESCRIPTION")
	for _, v := range views {
		current, memory, name := "", "", v.Name
		if v.Current {
			current = "yes"
		}
		switch {
		case v.Memory:
			memory = size(v.MemoryBytes)
		case v.MemoryGone:
			memory = "gone"
		}
		if v.State != "ready" {
			name += " (" + v.State + ")"
		}
		row(w, name, current, v.Parent, v.Consistency, size(v.DiskUsed), v.dataNames(), strings.Join(v.LeftOut, ","), memory,
			(time.Duration(v.PauseMS) * time.Millisecond).String(), age(a.now(), v.CreatedAt), v.Description)
	}
}

func (v snapshotView) details(w io.Writer) {
	row(w, "Name", v.Name)
	row(w, "Description", v.Description)
	row(w, "State", v.State)
	row(w, "Taken", v.CreatedAt.Format(time.RFC3339))
	row(w, "Parent", v.Parent)
	row(w, "Current", strconv.FormatBool(v.Current))
	row(w, "Pod", v.PodID)
	row(w, "Container", v.ContainerID)
	row(w, "Consistency", v.Consistency)
	row(w, "Pause", (time.Duration(v.PauseMS) * time.Millisecond).String())
	row(w, "Disk", size(v.DiskSize)+"; with data disks "+size(v.DiskUsed)+" on the node above the parent's")
	for _, d := range v.DataDisks {
		row(w, "Data disk", d.Name+", "+size(d.Size))
	}
	for _, name := range v.LeftOut {
		row(w, "Left out", "disk "+name+", which a restore leaves as it is")
	}
	if v.Memory {
		row(w, "Memory", size(v.MemoryBytes))
	}
	if v.MemoryGone {
		row(w, "Memory", "gone with the pod's sandbox; restore the disk alone (--disk-only)")
	}
}

func snapshotViewOf(s *vmletv1.Snapshot) snapshotView {
	word := func(value, prefix string) string {
		return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(value, prefix)), "_", "-")
	}
	var data []snapshotDiskView
	for _, d := range s.GetDataDisks() {
		data = append(data, snapshotDiskView{Name: d.GetName(), Size: d.GetSizeBytes()})
	}
	return snapshotView{
		DataDisks: data, LeftOut: s.GetLeftOut(),
		Name: s.GetName(), PodID: s.GetPodSandboxId(), Description: s.GetDescription(),
		State: word(s.GetState().String(), "SNAPSHOT_STATE_"), CreatedAt: time.Unix(0, s.GetCreatedAt()).UTC(),
		Parent: s.GetParent(), Current: s.GetCurrent(), ContainerID: s.GetContainerId(),
		Consistency: word(s.GetConsistency().String(), "SNAPSHOT_CONSISTENCY_"), PauseMS: s.GetPauseMs(),
		Memory: s.GetMemory(), MemoryBytes: s.GetMemoryBytes(), MemoryGone: s.GetMemoryGone(), DiskSize: s.GetDiskSizeBytes(), DiskUsed: s.GetDiskUsedBytes(),
	}
}
