// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// attachView is what is told of an attached disk. Its JSON is for programs: keys are added, none changes.
type attachView struct {
	Pod    string `json:"pod"`
	Name   string `json:"name"`
	Size   int64  `json:"size"` // bytes that a guest sees
	Serial string `json:"serial"`
	Target string `json:"target"`
}

// The words for formats and buses, "" for vmlet's choice.
var (
	attachFormats = map[string]vmletv1.DiskFormat{
		"": vmletv1.DiskFormat_DISK_FORMAT_UNSPECIFIED, "qcow2": vmletv1.DiskFormat_DISK_FORMAT_QCOW2, "raw": vmletv1.DiskFormat_DISK_FORMAT_RAW,
	}
	diskBuses = map[string]vmletv1.DiskBus{
		"": vmletv1.DiskBus_DISK_BUS_UNSPECIFIED, "virtio": vmletv1.DiskBus_DISK_BUS_VIRTIO, "scsi": vmletv1.DiskBus_DISK_BUS_SCSI,
	}
)

// attachFlags are those of "vmletctl disk attach".
type attachFlags struct {
	size                      byteCount
	path, format, bus, serial string
	readOnly                  bool
}

func (f attachFlags) request(vm, name string) (*vmletv1.AttachDiskRequest, error) {
	format, known := attachFormats[f.format]
	if !known {
		return nil, fmt.Errorf("--format %q is neither qcow2 nor raw", f.format)
	}
	bus, known := diskBuses[f.bus]
	if !known {
		return nil, fmt.Errorf("--bus %q is neither virtio nor scsi", f.bus)
	}
	req := &vmletv1.AttachDiskRequest{Vm: vm, Name: name, Format: format, Bus: bus, Serial: f.serial, ReadOnly: f.readOnly}
	switch {
	case (f.size == 0) == (f.path == ""):
		return nil, fmt.Errorf("say either --size, for a new disk, or --path")
	case f.path == "":
		req.Source = &vmletv1.AttachDiskRequest_SizeBytes{SizeBytes: int64(f.size)}
	case f.format == "":
		return nil, fmt.Errorf("say the --format of what is at --path: qcow2 or raw")
	default:
		req.Source = &vmletv1.AttachDiskRequest_Path{Path: f.path}
	}
	return req, nil
}

func (a *app) diskAttachCommand() *cobra.Command {
	var f attachFlags
	cmd := &cobra.Command{
		Use:   "attach POD NAME",
		Short: "Give a VM a disk",
		Long: `Gives the VM of a pod a disk, at once and in each of its later boots: a new one of a size,
the one of that name that was detached, or a file or block device of the node, which must be
in a folder that vmlet's configuration allows (disks.allowedPaths).

A disk by size goes with the pod's sandbox. In a Linux guest with udev a virtio disk is
/dev/disk/by-id/virtio-SERIAL; SERIAL is NAME unless that has more than 20 characters.`,
		Example: `  vmletctl disk attach web data --size 10G
  vmletctl disk attach web backup --path /srv/disks/backup.qcow2 --format qcow2
  vmletctl disk attach web dump --path /dev/vg0/dump --format raw --bus scsi --read-only`,
		Args: cobra.ExactArgs(2),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			if _, err := f.request("", args[1]); err != nil {
				return usageError{"vmletctl disk attach", err}
			}
			t, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			req, err := f.request(t.sandbox.GetId(), args[1])
			if err != nil {
				return err
			}
			resp, err := c.vms.AttachDisk(ctx, req)
			if err != nil {
				return err
			}
			v := attachView{Pod: t.String(), Name: args[1], Size: resp.GetSizeBytes(), Serial: resp.GetSerial(), Target: resp.GetTarget()}
			return a.print(v, func(w io.Writer) {
				row(w, "POD", "NAME", "SIZE", "SERIAL")
				row(w, v.Pod, v.Name, size(v.Size), v.Serial)
			})
		}),
	}
	flags := cmd.Flags()
	flags.Var(&f.size, "size", "a new disk of this `SIZE`, such as 10G")
	flags.StringVar(&f.path, "path", "", "`FILE` or block device on the node")
	flags.StringVar(&f.format, "format", "", "`FORMAT` of what is at --path: qcow2 or raw")
	flags.StringVar(&f.bus, "bus", "", "virtio or scsi (default: virtio)")
	flags.StringVar(&f.serial, "serial", "", "serial `NUMBER` that the guest sees, at most 20 characters (default: NAME)")
	flags.BoolVar(&f.readOnly, "read-only", false, "the guest cannot write to it; only with --path")
	return cmd
}
