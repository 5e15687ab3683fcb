// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"io"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// vmDiskView is what is told of a disk of a VM. Its JSON is for programs: keys are added, none changes.
type vmDiskView struct {
	Name      string      `json:"name"`
	Role      string      `json:"role"`
	State     string      `json:"state"`
	Size      int64       `json:"size"`      // bytes that a guest sees
	Allocated int64       `json:"allocated"` // bytes of its own file on the node
	Bus       string      `json:"bus"`
	Target    string      `json:"target,omitempty"`
	Serial    string      `json:"serial"`
	ReadOnly  bool        `json:"readOnly,omitempty"`
	Owned     bool        `json:"owned,omitempty"` // vmlet's, and removed with the sandbox
	Layers    []layerView `json:"layers"`
	Problem   string      `json:"problem,omitempty"`
}

type layerView struct {
	Path      string `json:"path"`
	Format    string `json:"format"`
	Allocated int64  `json:"allocated"`
	Shared    bool   `json:"shared,omitempty"`
}

// listDisksOf lists the disks of a pod's VM.
func (a *app) listDisksOf(ctx context.Context, c *client, ref string) error {
	t, err := c.find(ctx, ref)
	if err != nil {
		return err
	}
	resp, err := c.vms.ListVMDisks(ctx, &vmletv1.ListVMDisksRequest{Vm: t.sandbox.GetId()})
	if err != nil {
		return err
	}
	views := make([]vmDiskView, len(resp.GetDisks()))
	for i, d := range resp.GetDisks() {
		views[i] = vmDiskViewOf(d)
	}
	return a.print(views, func(w io.Writer) {
		row(w, "NAME", "STATE", "BUS", "SERIAL", "SIZE", "USED", "FILE")
		for _, v := range views {
			file := ""
			if len(v.Layers) > 0 {
				file = v.Layers[0].Path
			}
			row(w, v.Name, v.state(), v.Bus, v.Serial, size(v.Size), size(v.Allocated), cmp.Or(v.Problem, file))
		}
	})
}

func vmDiskViewOf(d *vmletv1.VMDisk) vmDiskView {
	v := vmDiskView{
		Name: d.GetName(), Role: word(d.GetRole().String(), "VM_DISK_ROLE_"), State: word(d.GetState().String(), "VM_DISK_STATE_"),
		Size: d.GetSizeBytes(), Allocated: d.GetAllocatedBytes(), Bus: word(d.GetBus().String(), "DISK_BUS_"), Target: d.GetTarget(),
		Serial: d.GetSerial(), ReadOnly: d.GetReadOnly(), Owned: d.GetOwned(), Problem: d.GetProblem(),
	}
	v.Layers = layerViews(d.GetLayers())
	return v
}

func layerViews(layers []*vmletv1.DiskLayer) (views []layerView) {
	for _, l := range layers {
		views = append(views, layerView{
			Path: l.GetPath(), Format: word(l.GetFormat().String(), "DISK_FORMAT_"), Allocated: l.GetAllocatedBytes(), Shared: l.GetShared(),
		})
	}
	return views
}

// state is where the disk stands, for a table.
func (v vmDiskView) state() string {
	if v.ReadOnly {
		return v.State + ", read-only"
	}
	return v.State
}
