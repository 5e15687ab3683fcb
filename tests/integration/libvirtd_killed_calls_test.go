// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// checkpointCalls write the VM with a data disk into a folder, and have it go on from one in a new sandbox.
func (d *doomed) checkpointCalls() []doomedCall {
	return []doomedCall{
		{
			name: "checkpoint", finished: codes.AlreadyExists,
			before: func() { d.withData("now") },
			call:   func() error { return d.checkpoints.checkpoint(d.pod, "new") },
			after: func() {
				d.disk().holdBoth("now")
				d.dropCheckpoint("new")
				d.withoutData()
			},
		},
		{
			name: "restore a checkpoint",
			before: func() {
				d.withData("kept")
				if err := d.checkpoints.checkpoint(d.pod, "kept"); err != nil {
					d.t.Fatal(err)
				}
				d.disk().writeBoth("gone")
				d.pod.Remove()
			},
			call: d.restoreCheckpoint,
			after: func() {
				d.disk().holdBoth("kept")
				d.dropCheckpoint("kept")
				d.withoutData()
			},
		},
	}
}

// restoreCheckpoint goes on from wherever an earlier call has come.
func (d *doomed) restoreCheckpoint() error {
	pod, err := d.checkpoints.restoreAgain(d.checkpoints.ctx(), d.spec, filepath.Join(d.checkpoints.dir, "kept"))
	if err != nil {
		return err
	}
	d.pod = pod
	switch d.pod.Status().GetState() {
	case runtimeapi.ContainerState_CONTAINER_RUNNING:
		return nil
	case runtimeapi.ContainerState_CONTAINER_EXITED: // the start has failed; the checkpoint is there
		d.pod.Remove()
		return d.restoreCheckpoint()
	default:
	}
	_, err = d.node.StartContainer(d.checkpoints.ctx(), &runtimeapi.StartContainerRequest{ContainerId: d.pod.ContainerID})
	return err
}

// dropCheckpoint removes a checkpoint that must be whole, and the only one.
func (d *doomed) dropCheckpoint(name string) {
	d.t.Helper()
	if files := d.checkpoints.holds(); len(files) != 4 {
		d.t.Errorf("the folder of checkpoints has %v", files)
	}
	if err := os.RemoveAll(filepath.Join(d.checkpoints.dir, name)); err != nil {
		d.t.Fatal(err)
	}
}

// resizeCalls give the VM another size.
func (d *doomed) resizeCalls() []doomedCall {
	memory := func(name string, from, to int64) doomedCall {
		return doomedCall{
			name:   name,
			before: func() { d.sizes().applied(from) },
			call:   func() error { return d.resize(&vmletv1.ResizeRequest{MemoryBytes: to * mib}) },
			after:  func() { d.memory = to; d.sizes().has(d.cpus, to) },
		}
	}
	return []doomedCall{
		memory("plug memory", 288, 416),
		memory("unplug memory", 416, 288),
		{
			name: "add a CPU",
			before: func() {
				if d.cpus++; d.cpus > 3 {
					d.anew()
				}
				// What empties QEMU's translation cache while it has no room for a CPU.
				d.pod.Exec("sh", "-c", "touch /run/busy; (while [ -e /run/busy ]; do "+fillCache+"; done) >/dev/null 2>&1 </dev/null &")
			},
			call: func() error {
				return d.resize(&vmletv1.ResizeRequest{Cpus: uint32(d.cpus), WaitMs: time.Minute.Milliseconds()})
			},
			after: func() {
				d.pod.Exec("rm", "-f", "/run/busy")
				d.sizes().has(d.cpus, d.memory)
			},
		},
	}
}

// resize is an error unless all of it is applied.
func (d *doomed) resize(req *vmletv1.ResizeRequest) error {
	did, err := d.sizes().try(req)
	if err != nil {
		return err
	}
	for _, part := range []*vmletv1.ResizedNumber{did.GetCpus(), did.GetMemoryBytes()} {
		if part.GetOutcome() == vmletv1.ResizeOutcome_RESIZE_OUTCOME_PARTLY {
			return errors.New(part.GetDetail())
		}
	}
	return nil
}

// anew makes the VM's next container, of the size that the pod asks for, and has a CPU to come: none is ever unplugged.
func (d *doomed) anew() {
	d.t.Helper()
	stop(d.t, d.node, d.pod.ContainerID, 30)
	if err := d.resize(&vmletv1.ResizeRequest{Cpus: 1, MemoryBytes: 160 * mib}); err != nil {
		d.t.Fatal(err)
	}
	d.pod.Create()
	d.pod.Start()
	d.pod.WaitReady()
	d.boot, d.cpus, d.memory = d.pod.BootID(), 2, 160
}
