// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"fmt"

	virt "libvirt.org/go/libvirt"

	"github.com/vmlet/vmlet/pkg/libvirt/domainxml"
	"github.com/vmlet/vmlet/pkg/vm"
)

// statsGroups are the groups of virConnectGetAllDomainStats that we read; each further
// one costs a round to every QEMU.
const statsGroups = virt.DOMAIN_STATS_CPU_TOTAL | virt.DOMAIN_STATS_BALLOON | virt.DOMAIN_STATS_BLOCK

// Stats implements lifecycle.Hypervisor. Foreign domains are not asked, and a domain that
// is busy with a job is left out of the groups that would wait for it.
func (h *Hypervisor) Stats(ctx context.Context) ([]vm.DomainStats, error) {
	return call(ctx, h.domains, "sample domains", "", func(s *session) ([]vm.DomainStats, error) {
		var ours []*virt.Domain
		defer func() {
			for _, dom := range ours {
				free(dom)
			}
		}()
		ids := map[string]string{}
		err := h.eachOwned(s, virt.CONNECT_LIST_DOMAINS_ACTIVE, func(dom *virt.Domain, mark domainxml.Mark) error {
			uuid, err := dom.GetUUIDString()
			if err != nil {
				return fmt.Errorf("read the domain's UUID: %w", err)
			}
			if err := dom.Ref(); err != nil {
				return fmt.Errorf("hold the domain: %w", err)
			}
			ids[uuid] = mark.SandboxID
			kept := *dom
			ours = append(ours, &kept)
			return nil
		})
		if err != nil || len(ours) == 0 {
			return nil, err
		}
		all, err := s.GetAllDomainStats(ours, statsGroups, virt.CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT)
		if err != nil {
			return nil, fmt.Errorf("read the statistics of %d domains: %w", len(ours), err)
		}
		return convertStats(all, ids)
	})
}

// convertStats turns libvirt's records into ours and frees them.
func convertStats(all []virt.DomainStats, ids map[string]string) ([]vm.DomainStats, error) {
	defer func() {
		for _, record := range all {
			free(record.Domain)
		}
	}()
	out := make([]vm.DomainStats, 0, len(all))
	for _, record := range all {
		uuid, err := record.Domain.GetUUIDString()
		if err != nil {
			return nil, fmt.Errorf("read the domain's UUID: %w", err)
		}
		out = append(out, domainStats(ids[uuid], record))
	}
	return out, nil
}

func domainStats(id string, record virt.DomainStats) vm.DomainStats {
	s := vm.DomainStats{SandboxID: id}
	if record.Cpu != nil {
		s.CPUTime = record.Cpu.Time
	}
	if record.Balloon != nil {
		s.RSS = record.Balloon.Rss * uint64(vm.KiB)
		s.BalloonCurrent = record.Balloon.Current * uint64(vm.KiB)
	}
	for _, b := range record.Block {
		s.BlockReadBytes += b.RdBytes
		s.BlockWriteBytes += b.WrBytes
		s.BlockReadOps += b.RdReqs
		s.BlockWriteOps += b.WrReqs
	}
	return s
}
