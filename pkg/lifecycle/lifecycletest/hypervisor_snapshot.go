// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Snapshot implements lifecycle.Hypervisor.
func (h *Hypervisor) Snapshot(ctx context.Context, id string, what vm.Snapshotting) error {
	if w := h.writingOf(id); w != nil && what.Memory != "" {
		return h.snapshotSlowly(ctx, id, what, w)
	}
	return h.callActive(ctx, "Snapshot", id, func(d *fakeDomain) error { return h.snapshot(d, what) })
}

// snapshot takes it at once. The mutex is held.
func (h *Hypervisor) snapshot(d *fakeDomain, what vm.Snapshotting) error {
	id := d.machine.SandboxID
	for _, disk := range what.Disks {
		if d.writing(disk.Disk) == nil {
			return refused(id, "no disk of the machine is "+disk.Disk)
		}
	}
	if what.Memory != "" {
		if d.machine.Share != "" && !d.shareAway {
			return refused(id, "migration with virtiofs device is not supported")
		}
		saved := DiskFile{memory: id, nics: maps.Clone(d.nics)}
		for _, disk := range d.live {
			saved.targets = append(saved.targets, disk.Target)
		}
		if f, ok := h.disks.File(d.machine.NVRAM); ok {
			saved.nvram = maps.Clone(f.data)
		}
		if err := h.disks.create(what.Memory, saved); err != nil {
			return err
		}
	}
	for _, disk := range what.Disks {
		live := d.writing(disk.Disk)
		live.setChain(append([]string{disk.Next}, live.chain()...))
	}
	redefine(d)
	return nil
}

// chain are the files of a disk, the one that is written to first.
func (disk *fakeDisk) chain() []string { return append([]string{disk.Path}, pathsOf(disk.Backing)...) }

func (disk *fakeDisk) setChain(files []string) {
	formats := map[string]vm.DiskFormat{}
	for _, b := range disk.Backing {
		formats[b.Path] = b.Format
	}
	disk.Path, disk.Format, disk.Backing = files[0], vm.FormatQCOW2, nil
	for _, path := range files[1:] {
		b := vm.BackingFile{Path: path, Format: vm.FormatQCOW2}
		if format, had := formats[path]; had {
			b.Format = format
		}
		disk.Backing = append(disk.Backing, b)
	}
}

// writing finds the disk of a running machine that is written to at a path.
func (d *fakeDomain) writing(path string) *fakeDisk {
	for i := range d.live {
		if d.live[i].Path == path && !d.live[i].ReadOnly {
			return &d.live[i]
		}
	}
	return nil
}

// Saving implements lifecycle.Hypervisor: for as long as SetSaving says.
func (h *Hypervisor) Saving(ctx context.Context, id string) (saving bool, err error) {
	err = h.callDomain(ctx, "Saving", id, func(d *fakeDomain) error {
		saving = d.saving
		return nil
	})
	return saving, err
}

// SetSaving has libvirt be at work on a snapshot that nobody waits for any more.
func (h *Hypervisor) SetSaving(id string, is bool) {
	h.withActive(id, func(d *fakeDomain) { d.saving = is })
}

// DefineDisks implements lifecycle.Hypervisor.
func (h *Hypervisor) DefineDisks(ctx context.Context, id string, disks []vm.DiskFiles) error {
	return h.callDomain(ctx, "DefineDisks", id, func(d *fakeDomain) error {
		if d.state.Active() {
			return refused(id, "it is active")
		}
		defined := slices.Clone(d.machine.Disks)
		for i := range defined {
			for _, files := range disks {
				if files.Target == "" && defined[i].Boot || files.Target != "" && defined[i].Target == files.Target {
					defined[i].Path, defined[i].Backing = files.Path, slices.Clone(files.Backing)
				}
			}
		}
		for _, files := range disks {
			if files.NVRAM != "" && d.machine.NVRAM != "" {
				d.machine.NVRAM = files.NVRAM
			}
		}
		d.machine.Disks = defined
		return nil
	})
}

// StartFromMemory implements lifecycle.Hypervisor.
func (h *Hypervisor) StartFromMemory(ctx context.Context, id, memory string, nics []vm.NIC) (has vm.Awoken, err error) {
	err = h.callDomain(ctx, "StartFromMemory", id, func(d *fakeDomain) error {
		saved, ok := h.disks.File(memory)
		if !ok || saved.memory != id {
			return refused(id, "no memory of it is in "+memory)
		}
		for _, target := range saved.targets {
			if !slices.ContainsFunc(disksOf(d.machine), func(disk fakeDisk) bool { return disk.Target == target }) {
				return refused(id, "the machine has no disk "+target)
			}
		}
		if err := h.start(id, d, "restored"); err != nil {
			return err
		}
		if d.machine.NVRAM != "" {
			h.disks.replaceData(d.machine.NVRAM, saved.nvram)
		}
		d.live = slices.DeleteFunc(d.live, func(disk fakeDisk) bool { return !slices.Contains(saved.targets, disk.Target) })
		d.shareAway = true
		d.nics = map[string]vm.NIC{}
		for _, nic := range nics {
			if saved.adopted {
				d.nics[nic.Tap] = nic
				has.NICs = append(has.NICs, nic)
			}
		}
		for tap, nic := range saved.nics {
			i := slices.IndexFunc(nics, func(now vm.NIC) bool { return now.Tap == tap && now.MAC == nic.MAC })
			if i < 0 {
				has.Surplus, nic.Tap, nic.Down = true, "surplus-"+tap, true
			} else {
				down := nic.Down
				nic = nics[i]
				nic.Down = down
				has.NICs = append(has.NICs, nic)
			}
			d.nics[nic.Tap] = nic
		}
		return nil
	})
	return has, err
}

// UnplugSurplus implements lifecycle.Hypervisor.
func (h *Hypervisor) UnplugSurplus(ctx context.Context, id string, nics []vm.NIC) error {
	var surplus []vm.NIC
	if err := h.call(ctx, "UnplugSurplus", id, func() error {
		if d, ok := h.domains[id]; ok && d.state.Active() {
			for tap, nic := range d.nics {
				if !slices.ContainsFunc(nics, func(now vm.NIC) bool { return now.Tap == tap }) {
					surplus = append(surplus, nic)
				}
			}
		}
		return nil
	}); err != nil {
		return err
	}
	for _, nic := range surplus {
		if err := h.UnplugNIC(ctx, id, nic); err != nil {
			return err
		}
	}
	return nil
}

// SavedMachine implements lifecycle.Hypervisor.
func (h *Hypervisor) SavedMachine(ctx context.Context, memory string) (string, error) {
	err := h.call(ctx, "SavedMachine", memory, func() error {
		if f, ok := h.disks.File(memory); !ok || f.memory == "" {
			return fmt.Errorf("look at a saved machine: %s: %w", memory, errdefs.ErrNotFound)
		}
		return nil
	})
	return "pc-q35-7.2", err
}

// Adopt implements lifecycle.Hypervisor: what is saved with memory is the ID of its sandbox.
func (*Hypervisor) Adopt(_ string, m vm.Machine, _ []vm.NIC, _ []string) (string, error) {
	return m.SandboxID, nil
}

// Chains implements lifecycle.Hypervisor.
func (h *Hypervisor) Chains(ctx context.Context, id string) (all [][]string, err error) {
	err = h.callActive(ctx, "Chains", id, func(d *fakeDomain) error {
		for _, disk := range d.live {
			if disk.Boot {
				all = append([][]string{disk.chain()}, all...)
			} else {
				all = append(all, disk.chain())
			}
		}
		return nil
	})
	return all, err
}

// PullLayer implements lifecycle.Hypervisor.
func (h *Hypervisor) PullLayer(ctx context.Context, id, path, base string) error {
	return h.callActive(ctx, "PullLayer", id, func(d *fakeDomain) error {
		disk := d.writing(path)
		if disk == nil {
			return refused(id, "no disk of the machine is "+path)
		}
		chain := disk.chain()
		at := slices.Index(chain, base)
		if base == "" {
			at = len(chain)
		}
		if at < 1 {
			return refused(id, base+" is not below the disk")
		}
		h.disks.mu.Lock()
		defer h.disks.mu.Unlock()
		if err := h.disks.pull(path, base); err != nil {
			return err
		}
		disk.setChain(append([]string{path}, chain[at:]...))
		redefine(d)
		return nil
	})
}

// CommitLayer implements lifecycle.Hypervisor.
func (h *Hypervisor) CommitLayer(ctx context.Context, id, from, into string) error {
	return h.callActive(ctx, "CommitLayer", id, func(d *fakeDomain) error {
		i := slices.IndexFunc(d.live, func(disk fakeDisk) bool { return slices.Contains(disk.chain(), from) })
		if i < 0 {
			return nil
		}
		disk := &d.live[i]
		chain := disk.chain()
		at := slices.Index(chain, from)
		if at == 0 || at+1 >= len(chain) || chain[at+1] != into {
			return refused(id, from+" is not right above "+into+", below the disk")
		}
		h.disks.mu.Lock()
		defer h.disks.mu.Unlock()
		h.disks.commit(from, into)
		h.disks.rebase(chain[at-1], into)
		disk.setChain(slices.Delete(chain, at, at+1))
		redefine(d)
		return nil
	})
}

// callActive is callDomain for a method that is FailedPrecondition for an inactive domain.
func (h *Hypervisor) callActive(ctx context.Context, method, id string, do func(*fakeDomain) error) error {
	return h.callDomain(ctx, method, id, func(d *fakeDomain) error {
		if !d.state.Active() {
			return fmt.Errorf("%s: domain of sandbox %s: it is not active: %w", method, id, errdefs.ErrFailedPrecondition)
		}
		return do(d)
	})
}

// start makes the QEMU of a domain.
func (h *Hypervisor) start(id string, d *fakeDomain, how string) error {
	if d.state.Active() {
		return refused(id, "it is active")
	}
	if err := h.opens(d); err != nil {
		return fmt.Errorf("Start: domain of sandbox %s: %w", id, err)
	}
	if d.machine.NVRAM != "" { // of a template, where there is none
		if err := h.disks.create(d.machine.NVRAM, DiskFile{}); err != nil {
			return fmt.Errorf("Start: domain of sandbox %s: %w", id, err)
		}
	}
	d.state, d.reason, d.pid, d.last, d.lost, d.shareAway = vm.DomainPaused, "user", h.nextPID, nil, false, false
	h.nextPID += 2 // one for the share
	d.nics = map[string]vm.NIC{}
	for _, nic := range d.machine.NICs {
		d.nics[nic.Tap] = nic
	}
	d.live = disksOf(d.machine)
	d.size = bootSize(d.machine)
	// As of libvirt 9.0; a domain with qemu-guest-agent's port gives an
	// AgentDisconnected before, which is left out.
	h.emit(id, vm.EventStarted, how)
	h.emit(id, vm.EventSuspended, "paused")
	return nil
}

// opens refuses to start on files that somebody else has locked.
func (h *Hypervisor) opens(d *fakeDomain) error {
	for _, disk := range d.machine.Disks {
		if err := h.locked(disk); err != nil {
			return err
		}
	}
	return nil
}

// locked refuses a disk of which somebody else has locked a file.
func (h *Hypervisor) locked(disk vm.MachineDisk) error {
	h.disks.mu.Lock()
	defer h.disks.mu.Unlock()
	for _, path := range append([]string{disk.Path}, pathsOf(disk.Backing)...) {
		if err := h.disks.busy(path); err != nil {
			return err
		}
	}
	return nil
}

func pathsOf(files []vm.BackingFile) (paths []string) {
	for _, f := range files {
		paths = append(paths, f.Path)
	}
	return paths
}

// redefine has the definition follow what became of the disks, as libvirt does.
func redefine(d *fakeDomain) {
	disks := slices.Clone(d.machine.Disks)
	for i, defined := range disksOf(d.machine) {
		for _, live := range d.live {
			if live.Target == defined.Target {
				disks[i].Path, disks[i].Backing = live.Path, slices.Clone(live.Backing)
			}
		}
	}
	d.machine.Disks = disks
}
