// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/vm"
)

// firstSample is how long after a start a new VM is sampled, so that its first figures
// need not wait for the next round.
const firstSample = 50 * time.Millisecond

// sampleTimeout bounds the sampling of one VM: one that hangs must not starve the others.
const sampleTimeout = 2 * time.Second

// roundGap is the least time between two rounds that somebody brings on. Every question
// brings on the next round: whoever compares two answers a second apart, as crictl does,
// finds two samples, and whoever asks without pause costs little more.
const roundGap = 700 * time.Millisecond

// sampler holds the last sample of each running container.
type sampler struct {
	mu   sync.RWMutex
	m    map[string]vm.Stats
	kick chan struct{}
}

func newSampler() *sampler {
	return &sampler{m: map[string]vm.Stats{}, kick: make(chan struct{}, 1)}
}

// soon asks for a round shortly; several asks become one.
func (p *sampler) soon() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

func (p *sampler) forget(containerID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.m, containerID)
}

// put stores a sample, with the rate since the one before it, if the container still
// runs: it may have ended while it was sampled. Whoever ends it records that, then calls
// forget.
func (p *sampler) put(st vm.Stats, runs func() bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !runs() {
		return
	}
	if last, ok := p.m[st.ContainerID]; ok && st.At.After(last.At) && st.CPUUsage >= last.CPUUsage {
		st.NanoCores = uint64(float64(st.CPUUsage-last.CPUUsage) / st.At.Sub(last.At).Seconds())
	}
	p.m[st.ContainerID] = st
}

// Stats returns the last sample of a running container. NotFound for one that does not
// run or has not been sampled yet.
func (s *Service) Stats(containerRef string) (vm.Stats, error) {
	c, err := s.Container(containerRef)
	if err != nil {
		return vm.Stats{}, err
	}
	s.sample.soon()
	s.sample.mu.RLock()
	defer s.sample.mu.RUnlock()
	st, ok := s.sample.m[c.ID]
	if !ok {
		return vm.Stats{}, fmt.Errorf("statistics of container %s, which is %s: %w", c.ID, c.Status.State, errdefs.ErrNotFound)
	}
	return st, nil
}

// AllStats returns the last samples of all running containers, in no order.
func (s *Service) AllStats() []vm.Stats {
	s.sample.soon()
	s.sample.mu.RLock()
	defer s.sample.mu.RUnlock()
	out := make([]vm.Stats, 0, len(s.sample.m))
	for _, st := range s.sample.m {
		out = append(out, st)
	}
	return out
}

// sampleLoop samples all running VMs every interval, and soon after a start.
func (s *Service) sampleLoop(ctx context.Context) {
	ticker := time.NewTicker(s.cfg.StatsInterval)
	defer ticker.Stop()
	for {
		last := time.Now()
		s.sampleAll(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-s.sample.kick:
			select {
			case <-ctx.Done():
				return
			case <-time.After(max(firstSample, roundGap-time.Since(last))):
			}
		}
	}
}

func (s *Service) sampleAll(ctx context.Context) {
	domains := s.domainStats(ctx)
	for _, c := range s.deps.Store.Containers.List() {
		if c.Status.State != vm.ContainerRunning {
			continue
		}
		st, err := s.sampleOne(ctx, c, domains)
		if err != nil {
			log.From(ctx).Debug("a VM was not sampled", zap.String("container", c.ID), zap.Error(err))
			continue
		}
		s.sample.put(st, func() bool {
			got, err := s.deps.Store.Containers.Get(c.ID)
			return err == nil && got.Status.State == vm.ContainerRunning
		})
	}
}

// domainStats asks libvirt for all VMs in one call, where our own cgroups cannot tell.
func (s *Service) domainStats(ctx context.Context) map[string]vm.DomainStats {
	out := map[string]vm.DomainStats{}
	if !s.cfg.LibvirtCgroups {
		return out
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StatsInterval)
	defer cancel()
	all, err := s.deps.Hypervisor.Stats(ctx)
	if err != nil {
		log.From(ctx).Debug("libvirt gave no statistics", zap.Error(err))
	}
	for _, d := range all {
		out[d.SandboxID] = d
	}
	return out
}

func (s *Service) sampleOne(ctx context.Context, c vm.Container, domains map[string]vm.DomainStats) (vm.Stats, error) {
	ctx, cancel := context.WithTimeout(ctx, sampleTimeout)
	defer cancel()
	sb, err := s.deps.Store.Sandboxes.Get(c.SandboxID)
	if err != nil {
		return vm.Stats{}, err
	}
	st := vm.Stats{SandboxID: sb.ID, ContainerID: c.ID, At: s.now()}
	if c.Status.Runs() { // what is off uses nothing but its disks
		if err := s.sampleUsage(ctx, sb, domains, &st); err != nil {
			return st, err
		}
	}
	disk, err := s.deps.Disks.Usage(ctx, sb.ID)
	if err != nil {
		return st, fmt.Errorf("disks: %w", err)
	}
	st.DiskUsed, st.DiskInodes, st.DiskMount = disk.UsedBytes, disk.UsedInodes, disk.MountPoint
	for _, d := range s.heldBy(sb) {
		u, err := s.deps.Disks.DiskUsage(ctx, d.ID)
		if err != nil {
			return st, fmt.Errorf("disks: %w", err)
		}
		st.DiskUsed += u.UsedBytes
		st.DiskInodes += u.UsedInodes
	}
	if sb.Status.Network != nil {
		if st.NICs, err = s.deps.Network.Stats(ctx, sb.Wiring()); err != nil {
			return st, fmt.Errorf("network: %w", err)
		}
	}
	return st, nil
}

func (s *Service) sampleUsage(ctx context.Context, sb vm.Sandbox, domains map[string]vm.DomainStats, st *vm.Stats) error {
	if s.cfg.LibvirtCgroups {
		d, ok := domains[sb.ID]
		if !ok {
			return fmt.Errorf("libvirt has no figures for it: %w", errdefs.ErrNotFound)
		}
		st.CPUUsage, st.RSS, st.MemoryUsage, st.WorkingSet = d.CPUTime, d.RSS, d.RSS, d.RSS
		return nil
	}
	u, err := s.deps.Cgroups.Usage(ctx, sb.ID, sb.Spec.CgroupParent)
	if err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	st.At = u.At
	st.CPUUsage, st.MemoryUsage, st.WorkingSet, st.RSS = u.CPUUsage, u.MemoryUsage, u.WorkingSet, u.RSS
	st.PageFaults, st.MajorFaults, st.PIDs = u.PageFaults, u.MajorFaults, u.PIDs
	if u.MemoryLimit > u.WorkingSet {
		st.MemoryAvailable = u.MemoryLimit - u.WorkingSet
	}
	return nil
}
