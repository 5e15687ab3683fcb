// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/vmlet/vmlet/pkg/cloudinit"
	"github.com/vmlet/vmlet/pkg/vm"
)

// prepare makes all that a domain needs before it is defined. The overlay and the cgroup
// are made beside the network; the seed holds the addresses that CNI gave, so it follows.
func (f *floor) prepare(ctx context.Context, p *floorPod) error {
	if err := os.Mkdir(f.paths.Sandbox(p.id), 0o711); err != nil { //nolint:gosec // QEMU's user passes through
		return err
	}
	var beside errgroup.Group
	beside.Go(func() error { return f.steps.time("overlay", func() error { return f.disk(ctx, p.id) }) })
	beside.Go(func() error {
		return f.steps.time("cgroup", func() (err error) { p.group, err = makeCgroup(p.id); return err })
	})
	err := f.steps.time("netns and CNI ADD", func() (err error) { p.nic, err = f.attach(ctx, p.id); return err })
	if err == nil {
		err = f.steps.time("seed", func() error { return f.seed(p) })
	}
	if besideErr := beside.Wait(); err == nil {
		err = besideErr
	}
	return err
}

// The files of a pod.
func (f *floor) root(id string) string    { return f.paths.RootDisk(id, "vm", f.base.ID) }
func (f *floor) console(id string) string { return f.paths.ConsoleSpool(id, id) }

// disk makes the overlay and the empty file for the console.
func (f *floor) disk(ctx context.Context, id string) error {
	out, err := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-u",
		"-F", string(f.base.Format), "-b", f.base.Path, f.root(id), strconv.FormatInt(f.base.VirtualSize, 10)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("qemu-img: %w: %s", err, out)
	}
	if err := os.WriteFile(f.console(id), nil, 0o600); err != nil {
		return err
	}
	return errors.Join(os.Chown(f.root(id), f.uid, f.gid), os.Chown(f.console(id), f.uid, f.gid))
}

func (f *floor) seed(p *floorPod) error {
	files, err := cloudinit.Build(vm.Seed{InstanceID: p.uuid(), Hostname: p.name(), NICs: []vm.NIC{p.nic}})
	if err != nil {
		return err
	}
	iso, err := cloudinit.ISO(files)
	if err != nil {
		return err
	}
	if err := os.WriteFile(f.paths.Seed(p.id), iso, 0o640); err != nil { //nolint:gosec // QEMU's group reads it
		return err
	}
	return os.Chown(f.paths.Seed(p.id), 0, f.gid)
}
