// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"

	"github.com/vmlet/vmlet/pkg/vm"
)

// machineOf derives the domain from the records and the node's defaults. It is pure:
// the same records give the same machine, before and after a restart.
func (s *Service) machineOf(sb vm.Sandbox, c vm.Container, d vm.Disk, ask vm.Overrides) vm.Machine {
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
		CPU:         vm.MachineCPU{Count: c.Status.Size.VCPUs, Max: c.Status.Size.MaxVCPUs, Mode: cpuMode(def.CPUMode, s.Accel()), Model: def.CPUModel},
		Memory:      c.Status.Size.Memory,
		MaxMemory:   c.Status.Size.MaxMemory,
		BootMemory:  c.Status.Size.BootMemory,

		Disks: []vm.MachineDisk{
			{
				Path: d.Path, Format: vm.FormatQCOW2, Bus: bus, Boot: true, ErrorPolicy: def.ErrorPolicy,
				Backing: backingOf(s.treeWith(sb, d), d), Serial: "root",
			},
			{
				Path: s.cfg.Paths.Seed(sb.ID), Format: vm.FormatRaw, Bus: bus, ReadOnly: true,
				ErrorPolicy: "report", Serial: "seed",
			},
		},
		NVRAM:        d.NVRAM,
		NICs:         sb.NICs(),
		ConsoleSpool: s.cfg.Paths.ConsoleSpool(sb.ID, c.ID),
		AgentChannel: def.AgentChannel,
		AgentSocket:  s.agentSocket(sb.ID, ask),
		RNG:          def.RNG,
		Watchdog:     def.Watchdog,
		Video:        def.Video,
		VNC:          def.VNC,
	}
	m.Disks = append(m.Disks, s.machineDisks(sb)...)
	if c.Spec.HasMain() {
		m.OutputSpool = s.cfg.Paths.OutputSpool(sb.ID, c.ID)
	}
	if len(c.Status.Shares) > 0 {
		m.Share = s.cfg.Paths.Share(sb.ID)
	}
	if s.cfg.LibvirtCgroups {
		limits := groupLimits(sb, c, s.Accel())
		m.Cputune = &limits
	}
	return m
}

// agentSocket is where QEMU listens for us, "" for a machine without vmlet-agent's port.
func (s *Service) agentSocket(sandboxID string, ask vm.Overrides) string {
	if !s.hasAgentPort(ask) {
		return ""
	}
	return s.cfg.Paths.AgentSocket(sandboxID)
}

// hasAgentPort tells whether machines have a port for vmlet-agent.
func (s *Service) hasAgentPort(ask vm.Overrides) bool {
	return s.defaults.Load().AgentChannel && ask.GuestAgent != vm.GuestAgentQGA
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

// consoles names the files of what a container prints. Where it has a command, that is its
// log, and the serial console is consumed unread.
func (s *Service) consoles(c vm.Container) []Console {
	serial := Console{
		ContainerID: c.ID,
		Spool:       s.cfg.Paths.ConsoleSpool(c.SandboxID, c.ID),
		Checkpoint:  s.cfg.Paths.ConsoleCheckpoint(c.SandboxID, c.ID),
	}
	if !c.Spec.HasMain() {
		serial.Log = c.Spec.LogPath
		return []Console{serial}
	}
	return []Console{serial, {
		ContainerID: c.ID,
		Format:      vm.ConsoleRecords,
		Spool:       s.cfg.Paths.OutputSpool(c.SandboxID, c.ID),
		Checkpoint:  s.cfg.Paths.OutputCheckpoint(c.SandboxID, c.ID),
		Log:         c.Spec.LogPath,
	}}
}

// follow begins to copy what the container prints into its log.
func (s *Service) follow(ctx context.Context, c vm.Container) error {
	for _, console := range s.consoles(c) {
		if err := s.deps.Consoles.Follow(ctx, console); err != nil {
			return fmt.Errorf("follow the output: %w", err)
		}
	}
	return nil
}

// finishLog copies the rest, and ends the copying.
func (s *Service) finishLog(ctx context.Context, c vm.Container) error {
	var errs []error
	for _, console := range s.consoles(c) {
		errs = append(errs, s.deps.Consoles.Finish(ctx, console))
	}
	return errors.Join(errs...)
}
