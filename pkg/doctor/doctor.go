// SPDX-License-Identifier: Apache-2.0

// Package doctor judges whether the host can run VMs, and says for each fault how to
// mend it. The daemon runs it at its start; `vmlet doctor` runs it by hand. It changes
// nothing. The checks are methods of Doctor, in a file per subject; Run lists them in order.
package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/vmlet/vmlet/pkg/config"
	"github.com/vmlet/vmlet/pkg/vm"
)

// probeTimeout bounds one check: a host that hangs is a finding, not a hang.
const probeTimeout = 10 * time.Second

// Libvirt is what the doctor asks of libvirt.
type Libvirt interface {
	// Ready tells whether libvirt answers.
	Ready(ctx context.Context) error
	// Versions are libvirt's and QEMU's.
	Versions(ctx context.Context) (libvirt, qemu string, err error)
	// Firmwares are what libvirt can have guests boot by beside BIOS.
	Firmwares(ctx context.Context) ([]string, error)
	// Accelerator chooses how guests' CPUs are run, and says why.
	Accelerator(ctx context.Context, mode string) (accel vm.Accel, why string, err error)
}

// Network is what the doctor asks of CNI.
type Network interface {
	Ready(ctx context.Context) error
}

// Doctor holds what the checks look at. Root is "/" but in tests.
type Doctor struct {
	Config  config.Config
	Libvirt Libvirt
	Network Network
	Root    string
}

type check struct {
	name string
	run  func(context.Context) vm.Check
}

// Run makes all checks, one after another, in the order a person would mend them.
func (d *Doctor) Run(ctx context.Context) []vm.Check {
	checks := []check{
		{"libvirt", d.libvirt},
		{"console", d.console},
		{"cgroups", d.cgroups},
		{"qemu-user", d.qemuUser},
		{"kvm-device", d.kvmDevice},
		{"accelerator", d.accelerator},
		{"firmware", d.firmware},
		{"kernel-tun", d.kernelTun},
		{"kernel-network", d.kernelNetwork},
		{"cni", d.cni},
		{"disk-space", d.diskSpace},
		{"folders", d.folders},
		{"state-folder", d.stateFolder},
		{"reaper", d.reaper},
	}
	out := make([]vm.Check, len(checks))
	for i, c := range checks {
		out[i] = bounded(ctx, c)
	}
	return out
}

// bounded runs one check and gives it up after probeTimeout.
func bounded(ctx context.Context, c check) vm.Check {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	done := make(chan vm.Check, 1)
	go func() { done <- c.run(ctx) }()
	var found vm.Check
	select {
	case found = <-done:
	case <-ctx.Done():
		found = fail(fmt.Sprintf("no answer within %s", probeTimeout), "look for what hangs: libvirt, the disk or the network")
	}
	found.Name = c.name
	return found
}

func ok(format string, args ...any) vm.Check {
	return vm.Check{Level: vm.CheckOK, Summary: fmt.Sprintf(format, args...)}
}

func warn(summary, mend string) vm.Check {
	return vm.Check{Level: vm.CheckWarn, Summary: summary, Mend: mend}
}

func fail(summary, mend string) vm.Check {
	return vm.Check{Level: vm.CheckFail, Summary: summary, Mend: mend}
}
