// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"

	"github.com/vmlet/vmlet/pkg/vm"
)

// machineOf derives the domain from the records and the node's defaults. It is pure:
// the same records give the same machine, before and after a restart.
func (s *Service) machineOf(sb vm.Sandbox, c vm.Container, d vm.Disk, sz size, ask vm.Overrides) vm.Machine {
	def := s.defaults.Load()
	bus := def.DiskBus
	if ask.DiskBus != "" {
		bus = ask.DiskBus
	}
	m := vm.Machine{
		SandboxID:   sb.ID,
		UUID:        sb.UUID(),
		Name:        sb.DomainName(),
		Title:       fmt.Sprintf("%s/%s (%s)", sb.Spec.Namespace, sb.Spec.Name, c.Spec.Name),
		Description: fmt.Sprintf("pod %s/%s uid %s attempt %d, container %s attempt %d, image %s", sb.Spec.Namespace, sb.Spec.Name, sb.Spec.UID, sb.Spec.Attempt, c.Spec.Name, c.Spec.Attempt, c.Spec.ImageRef),
		Owner:       s.deps.Store.Owner,

		Accel:       s.Accel(),
		MachineType: def.MachineType,
		CPU:         vm.MachineCPU{Count: sz.vcpus, Mode: cpuMode(def.CPUMode, s.Accel()), Model: def.CPUModel},
		Memory:      sz.memory,

		Disks: []vm.MachineDisk{
			{
				Path: d.Path, Format: vm.FormatQCOW2, Bus: bus, Boot: true, ErrorPolicy: def.ErrorPolicy,
				Backing: []vm.BackingFile{{Path: d.Backing, Format: d.BackingFormat}}, Serial: "root",
			},
			{
				Path: s.cfg.Paths.Seed(sb.ID), Format: vm.FormatRaw, Bus: bus, ReadOnly: true,
				ErrorPolicy: "report", Serial: "seed",
			},
		},
		NICs:         sb.Status.Network.NICs,
		ConsoleSpool: s.cfg.Paths.ConsoleSpool(sb.ID, c.ID),
		AgentChannel: def.AgentChannel,
		RNG:          def.RNG,
		Watchdog:     def.Watchdog,
	}
	if s.cfg.LibvirtCgroups {
		limits := cgroupLimits(sb.Spec, c.Spec)
		m.Cputune = &limits
	}
	return m
}

// cpuMode resolves the mode that is left to us. Without one, libvirt takes QEMU's oldest
// CPU, which images built for x86-64-v2 do not boot on.
func cpuMode(configured string, accel vm.Accel) string {
	switch {
	case configured != "":
		return configured
	case accel == vm.AccelKVM:
		return "host-model"
	default:
		return "maximum"
	}
}

// seedOf derives what cloud-init is told.
func seedOf(sb vm.Sandbox, ask vm.Overrides) vm.Seed {
	hostname := sb.Spec.Hostname
	if hostname == "" {
		hostname = sb.Spec.Name
	}
	dns := sb.Spec.DNS
	if len(dns.Servers) == 0 && len(dns.Searches) == 0 && len(dns.Options) == 0 {
		dns = sb.Status.Network.DNS
	}
	return vm.Seed{
		// The sandbox is the instance: a restarted container is the same machine.
		InstanceID: sb.UUID(),
		Hostname:   hostname,
		SSHKeys:    ask.SSHKeys,
		NICs:       sb.Status.Network.NICs,
		DNS:        dns,
		UserData:   ask.UserData,
	}
}

// console names the files of a container's console.
func (s *Service) console(c vm.Container) Console {
	return Console{
		ContainerID: c.ID,
		Spool:       s.cfg.Paths.ConsoleSpool(c.SandboxID, c.ID),
		Checkpoint:  s.cfg.Paths.ConsoleCheckpoint(c.SandboxID, c.ID),
		Log:         c.Spec.LogPath,
	}
}
