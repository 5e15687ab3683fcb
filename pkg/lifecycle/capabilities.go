// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// capability is a row of the table below. What is nil stands in nobody's way; else each says why not, in the order gate,
// host, vm. None of them may block.
type capability struct {
	name string
	// gate is the one that the use case asks.
	gate vm.Gate
	host func(hostFacts) (whyNot string)
	vm   func(vm.VMStatus) (whyNot string)
}

// hostFacts are what capabilities of the host follow from.
type hostFacts struct {
	vm.Host
	accel vm.Accel
	// libvirtCgroups: libvirt owns QEMU's cgroups.
	libvirtCgroups bool
}

// capabilities are all that there are, in the order in which they are told. Whoever adds a use case adds its row. Names are
// stable: a noun, and behind a dot which way or part of it.
var capabilities = []capability{
	{name: "kvm", host: runsKVM},
	{name: "firmware.efi", host: hasUEFI},
	{name: "mounts.files", vm: answersVMlet},
	{name: "mounts.shares", host: offers("filesystem.driverType", "virtiofs"), vm: answersVMlet},
	{name: "limits.update", host: ownsCgroups},
	{name: "exec", vm: answersAny},
	{name: "exec.tty", vm: answersVMlet},
	{name: "attach", vm: isUp},
	{name: "port-forward", vm: runs},
	{name: "console", gate: vm.GateConsole, vm: isUp},
	{name: "guest", vm: answersAny},
	{name: "pause", vm: isUp},
	{name: "power", vm: isUpOrOff},
	{name: "reboot.agent", vm: answersAny},
	{name: "reboot.acpi", vm: runs},
	{name: "reboot.reset", vm: runs},
	{name: "hotplug.cpu.add", gate: vm.GateCPUAdd},
	{name: "hotplug.cpu.remove", gate: vm.GateCPURemove, host: ownsCgroups},
	{name: "hotplug.memory.add", gate: vm.GateMemoryAdd, vm: runs},
	{name: "hotplug.memory.remove", gate: vm.GateMemoryRemove, vm: runs},
	{name: "hotplug.disk.add", gate: vm.GateDiskAdd},
	{name: "hotplug.disk.remove", gate: vm.GateDiskRemove},
	{name: "hotplug.nic.add", gate: vm.GateNICAdd},
	{name: "hotplug.nic.remove", gate: vm.GateNICRemove},
	{name: "snapshots.disk", gate: vm.GateSnapshots},
	{name: "snapshots.memory", gate: vm.GateSnapshots, vm: isUp},
	{name: "snapshots.quiesce", gate: vm.GateSnapshots, vm: answersAny},
	{name: "checkpoint", gate: vm.GateSnapshots, vm: isUp},
}

// Capabilities tells what can be done to the VM that ref names (as in sandboxOf), or for "" to VMs of the default runtime
// handler on this host, and why not. It answers from memory. Unavailable until libvirt has said what it can, which Run asks it.
func (s *Service) Capabilities(ref string) ([]vm.Capability, error) {
	host := s.host.Load()
	if host == nil {
		return nil, fmt.Errorf("capabilities: what libvirt can do is not known yet: %w", errdefs.ErrUnavailable)
	}
	var one *vm.VMStatus
	if ref != "" {
		id, err := s.sandboxOf(ref)
		if err != nil {
			return nil, fmt.Errorf("capabilities: %w", err)
		}
		is, ok := s.news.one(id)
		if !ok {
			return nil, fmt.Errorf("capabilities: sandbox %s: %w", id, errdefs.ErrNotFound)
		}
		one = &is
	}
	out := make([]vm.Capability, len(capabilities))
	for i, c := range capabilities {
		why := s.whyNot(c, *host, one)
		out[i] = vm.Capability{Name: c.name, Available: why == "", WhyNot: why}
	}
	return out, nil
}

func (s *Service) whyNot(c capability, host hostFacts, one *vm.VMStatus) string {
	handler := ""
	if one != nil {
		handler = one.RuntimeHandler
	}
	if c.gate != "" && s.closed(handler, c.gate) {
		return closedText(handler, c.gate)
	}
	if c.host != nil {
		if why := c.host(host); why != "" {
			return why
		}
	}
	if c.vm != nil && one != nil {
		return c.vm(*one)
	}
	return ""
}

// askHost asks libvirt what it can do.
func (s *Service) askHost(ctx context.Context) error {
	host, err := s.deps.Hypervisor.Host(ctx, s.Accel())
	if err != nil {
		return fmt.Errorf("ask what libvirt can do: %w", err)
	}
	s.host.Store(&hostFacts{Host: host, accel: s.Accel(), libvirtCgroups: s.cfg.LibvirtCgroups})
	return nil
}

func runsKVM(h hostFacts) string {
	switch {
	case h.accel == vm.AccelKVM:
		return ""
	case h.NoKVM != "":
		return h.NoKVM
	default:
		return "the configuration says virtualization: tcg"
	}
}

func ownsCgroups(h hostFacts) string {
	if h.libvirtCgroups {
		return "libvirt owns QEMU's cgroups; `vmlet doctor` says how to change that"
	}
	return ""
}

// offers wants a value among what libvirt lists for a device.
func offers(device, value string) func(hostFacts) string {
	return func(h hostFacts) string {
		if slices.Contains(h.Devices[device], value) {
			return ""
		}
		return fmt.Sprintf("libvirt %s with QEMU %s does not list %s %s", h.Libvirt, h.QEMU, device, value)
	}
}

// isUp wants a VM that was started and has not ended.
func isUp(v vm.VMStatus) string {
	if v.State == vm.VMRunning || v.State == vm.VMPaused {
		return ""
	}
	return "no VM runs: it is " + string(v.State)
}

// isUpOrOff is isUp, or wants a VM that was powered off while its container is held.
func isUpOrOff(v vm.VMStatus) string {
	if v.State == vm.VMOff {
		return ""
	}
	return isUp(v)
}

// runs wants CPUs that run.
func runs(v vm.VMStatus) string {
	if v.State == vm.VMPaused {
		return "the VM is paused"
	}
	return isUp(v)
}

func answersVMlet(v vm.VMStatus) string {
	why := runs(v)
	if why == "" && !v.Answering {
		why = "no vmlet-agent answers in the guest"
	}
	return why
}

func answersAny(v vm.VMStatus) string {
	why := runs(v)
	if why == "" && !v.Answering && !v.QGA {
		why = "no agent answers in the guest"
	}
	return why
}
