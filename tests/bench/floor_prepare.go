// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/vmlet/vmlet/pkg/cloudinit"
	"github.com/vmlet/vmlet/pkg/config"
	"github.com/vmlet/vmlet/pkg/vm"
)

// prepare makes all that a domain needs before it is defined. The overlay and the cgroup
// are made beside the network; the seed holds the addresses that CNI gave, so it follows.
func (f *floor) prepare(ctx context.Context, p *floorPod) (vm.Machine, error) {
	if err := os.Mkdir(f.paths.Sandbox(p.id), 0o711); err != nil { //nolint:gosec // QEMU's user passes through
		return vm.Machine{}, err
	}
	m := f.machine(p.id)
	var beside errgroup.Group
	beside.Go(func() error { return f.steps.time("overlay", func() error { return f.disk(ctx, m) }) })
	beside.Go(func() (err error) { p.group, err = makeCgroup(p.id); return err })
	err := f.steps.time("netns and CNI ADD", func() (err error) {
		m.NICs, err = f.attach(ctx, p.id)
		return err
	})
	if err == nil {
		err = f.steps.time("seed", func() error { return f.seed(p.id, m) })
	}
	if besideErr := beside.Wait(); err == nil {
		err = besideErr
	}
	return m, err
}

// machine is what vmlet makes of a pod that asks for nothing, from the same defaults; the
// run compares the two domains before it begins.
func (f *floor) machine(id string) vm.Machine {
	d := config.Default().Defaults
	disk := func(path string, format vm.DiskFormat) vm.MachineDisk {
		return vm.MachineDisk{Path: path, Format: format, Bus: d.DiskBus}
	}
	root, seed := disk(f.paths.RootDisk(id, "vm", f.base.ID), vm.FormatQCOW2), disk(f.paths.Seed(id), vm.FormatRaw)
	root.Boot, root.ErrorPolicy, root.Serial = true, d.DiskErrorPolicy, "root"
	root.Backing = []vm.BackingFile{{Path: f.base.Path, Format: f.base.Format}}
	seed.ReadOnly, seed.ErrorPolicy, seed.Serial = true, "report", "seed"
	return vm.Machine{
		SandboxID: id, UUID: vm.UUIDFromID(id), Name: "floor-" + id[:12], Owner: "floor",
		Title: "floor", Description: "the floor of a benchmark",
		Accel: vm.AccelTCG, MachineType: d.Machine,
		CPU: vm.MachineCPU{Count: d.VCPUs, Mode: d.CPU.Mode, Model: d.CPU.Model}, Memory: f.memory,
		Disks:        []vm.MachineDisk{root, seed},
		ConsoleSpool: f.paths.ConsoleSpool(id, id), AgentChannel: d.AgentChannel, RNG: d.RNG,
		Watchdog: vm.Watchdog{Model: d.Watchdog.Model, Action: d.Watchdog.Action},
	}
}

// disk makes the overlay and the empty file for the console.
func (f *floor) disk(ctx context.Context, m vm.Machine) error {
	root := m.Disks[0]
	out, err := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-u",
		"-F", string(f.base.Format), "-b", f.base.Path, root.Path, strconv.FormatInt(f.base.VirtualSize, 10)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("qemu-img: %w: %s", err, out)
	}
	if err := os.WriteFile(m.ConsoleSpool, nil, 0o600); err != nil {
		return err
	}
	for _, path := range []string{root.Path, m.ConsoleSpool} {
		if err := os.Chown(path, f.uid, f.gid); err != nil {
			return err
		}
	}
	return nil
}

func (f *floor) seed(id string, m vm.Machine) error {
	files, err := cloudinit.Build(vm.Seed{InstanceID: m.UUID, Hostname: "floor", NICs: m.NICs})
	if err != nil {
		return err
	}
	iso, err := cloudinit.ISO(files)
	if err != nil {
		return err
	}
	if err := os.WriteFile(f.paths.Seed(id), iso, 0o640); err != nil { //nolint:gosec // QEMU's group reads it
		return err
	}
	return os.Chown(f.paths.Seed(id), 0, f.gid)
}

// console is the file that the guest's serial console goes to.
func (f *floor) console(p *floorPod) string { return filepath.Clean(p.machine.ConsoleSpool) }
