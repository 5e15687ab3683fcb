// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/cloudinit"
	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

// writeSeed makes what cloud-init reads. The container's shares have their Source.
func (s *Service) writeSeed(ctx context.Context, rev *revert.Reverter, sb vm.Sandbox, c vm.Container, ask vm.Overrides) error {
	iso, err := s.seedISO(sb, c, ask)
	if err != nil {
		return err
	}
	path := s.cfg.Paths.Seed(sb.ID)
	rev.Add("seed", func(ctx context.Context) error { return s.deps.Disks.RemoveFile(ctx, path) })
	return s.deps.Disks.WriteSeed(ctx, path, iso)
}

// renewSeed puts another seed in the place of a container's, since what it tells of NICs has changed.
func (s *Service) renewSeed(ctx context.Context, sb vm.Sandbox, c vm.Container) error {
	ask, err := annotations.Parse(sb.Spec.AllSettings())
	if err != nil {
		return err
	}
	iso, err := s.seedISO(sb, c, ask)
	if err != nil {
		return err
	}
	return s.deps.Disks.WriteSeed(ctx, s.cfg.Paths.Seed(sb.ID), iso)
}

func (s *Service) seedISO(sb vm.Sandbox, c vm.Container, ask vm.Overrides) ([]byte, error) {
	seed, err := s.completeSeed(seedOf(sb, ask), sb, c, ask)
	if err != nil {
		return nil, err
	}
	files, err := cloudinit.Build(seed)
	if err != nil {
		return nil, err
	}
	return cloudinit.ISO(files)
}

// seedOf derives what cloud-init is told.
func seedOf(sb vm.Sandbox, ask vm.Overrides) vm.Seed {
	return vm.Seed{
		// The sandbox is the instance: a restarted container is the same machine.
		InstanceID: sb.UUID(),
		Hostname:   hostnameOf(sb.Spec),
		SSHKeys:    ask.SSHKeys,
		NICs:       sb.NICs(),
		DNS:        dnsOf(sb),
		UserData:   ask.UserData,
	}
}

// completeSeed adds the agent where cloud-init is to install it, or what the agent would see
// to where there will be none.
func (s *Service) completeSeed(seed vm.Seed, sb vm.Sandbox, c vm.Container, ask vm.Overrides) (_ vm.Seed, err error) {
	switch {
	case ask.GuestAgent == vm.GuestAgentSeed:
		seed.Agent, err = s.deps.AgentBinary()
	case !s.hasAgentPort(ask):
		seed.Shares, seed.Sysctls = c.Status.Shares, sb.Spec.Sysctls
		seed.Files, err = s.deps.Guest.ReadFiles(c.Status.Files)
	}
	return seed, err
}
