// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/vm"
)

// A snapshot's memory knows the devices of its moment, and QEMU goes on in it with those alone. So the machine is restored
// with them and brought in line with the records then: what was attached since is plugged before its CPUs run, and what was
// detached since is unplugged when they do, for which the guest is waited for.

// rejoinWait is how long a restored guest is waited for to let go of a NIC that was detached since.
const rejoinWait = 30 * time.Second

// mayTakeMemory refuses the memory of a machine whose devices are just changing.
func mayTakeMemory(sb vm.Sandbox, c vm.Container) error {
	for _, d := range sb.Status.DataDisks {
		if d.State != vm.DataDiskDetached && d.State != vm.DataDiskAttached {
			return fmt.Errorf("its disk %q is %s: %w", d.Name, d.State, errdefs.ErrUnavailable)
		}
	}
	return nicsSettled(sb, c)
}

// writableDisks names the callers' disks that were attached to a machine and that its guest can write to.
func writableDisks(sb vm.Sandbox) (names []string) {
	for _, d := range sb.Status.DataDisks {
		if d.State == vm.DataDiskAttached && !d.Own() && !d.Spec.ReadOnly {
			names = append(names, d.Name)
		}
	}
	return names
}

// nicsSettled is Unavailable while the NICs of a machine change.
func nicsSettled(sb vm.Sandbox, c vm.Container) error {
	if c.Status.Rejoin {
		return errRejoining
	}
	for _, n := range sb.Status.NICs {
		if n.State != vm.NICAttached {
			return fmt.Errorf("its NIC %s is %s: %w", n.Spec.Name, n.State, errdefs.ErrUnavailable)
		}
	}
	return nil
}

// errRejoining is a machine whose NICs are not yet those on record.
var errRejoining = fmt.Errorf("it was restored with a NIC that was detached since, which its guest has not let go of yet (it cannot while it is paused): %w",
	errdefs.ErrUnavailable)

// readOnlyDisks are the data disks that the machine has and that it can only read, for its memory's record.
func readOnlyDisks(sb vm.Sandbox) (disks []vm.SnapshotDataDisk) {
	for _, d := range sb.Status.DataDisks {
		if d.State == vm.DataDiskAttached && d.Spec.ReadOnly {
			disks = append(disks, snapshotDataDisk(d))
		}
	}
	return disks
}

func snapshotDataDisk(d vm.DataDisk) vm.SnapshotDataDisk {
	return vm.SnapshotDataDisk{Name: d.Name, Path: d.Path, Serial: d.Serial, Target: d.Target}
}

// mayRejoin refuses memory whose machine had a disk that is not there now.
func mayRejoin(sb vm.Sandbox, m vm.SnapshotMemory) error {
	for _, had := range m.DataDisks {
		if !slices.ContainsFunc(sb.Status.DataDisks, func(d vm.DataDisk) bool {
			return d.State == vm.DataDiskAttached && d.Spec.ReadOnly && snapshotDataDisk(d) == had
		}) {
			return fmt.Errorf("the memory of the snapshot is of a machine with disk %q (%s, read-only, serial number %s) as %s, which it has not now; attach that again first, or restore the disk alone: %w",
				had.Name, had.Path, had.Serial, had.Target, errdefs.ErrFailedPrecondition)
		}
	}
	return nil
}

// wakeUp starts QEMU in the memory of a snapshot, as a part of the pod, with all devices on record. Its CPUs stay halted.
func (s *Service) wakeUp(ctx context.Context, sb vm.Sandbox, c vm.Container, memory string) (surplus bool, err error) {
	has, err := s.deps.Hypervisor.StartFromMemory(ctx, sb.ID, memory, sb.NICs())
	if err != nil {
		return false, fmt.Errorf("start the domain: %w", err)
	}
	if err := s.connect(ctx, withNICs(sb, has.NICs), c); err != nil {
		return false, err
	}
	for _, nic := range sb.NICs() {
		i := slices.IndexFunc(has.NICs, func(h vm.NIC) bool { return h.Tap == nic.Tap })
		switch {
		case i < 0:
			err = s.plugNIC(ctx, sb, nic)
		case has.NICs[i].Down != nic.Down:
			err = s.deps.Hypervisor.SetLink(ctx, sb.ID, nic)
		}
		if err != nil {
			return false, fmt.Errorf("NIC %s: %w", nic.Name, err)
		}
	}
	for _, d := range sb.Status.DataDisks {
		if d.State != vm.DataDiskAttached {
			continue
		}
		if err := s.deps.Hypervisor.AttachDisk(ctx, sb.ID, s.machineDisk(sb, d)); err != nil {
			return false, fmt.Errorf("disk %q: %w", d.Name, err)
		}
	}
	return has.Surplus, nil
}

// withNICs is a sandbox with these alone of the NICs on record: what there are taps for.
func withNICs(sb vm.Sandbox, has []vm.NIC) vm.Sandbox {
	in := func(tap string) bool { return slices.ContainsFunc(has, func(h vm.NIC) bool { return h.Tap == tap }) }
	network := *sb.Status.Network
	network.NICs = slices.DeleteFunc(slices.Clone(network.NICs), func(nic vm.NIC) bool { return !in(nic.Tap) })
	sb.Status.Network = &network
	sb.Status.NICs = slices.DeleteFunc(slices.Clone(sb.Status.NICs), func(n vm.AttachedNIC) bool { return n.NIC == nil || !in(n.NIC.Tap) })
	return sb
}

// rejoin has the guest that was restored with its memory let go of NICs that were detached since, configure those it has
// and mount its share. It waits for the guest, without the sandbox's lock. What cannot be now goes on in the background,
// and the error says so. A guest that is paused does it when it is resumed.
func (s *Service) rejoin(ctx context.Context, sandboxID string) error {
	c, live := s.liveContainer(sandboxID)
	if !live || c.Status.State != vm.ContainerRunning || c.Status.Paused {
		return nil
	}
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil {
		return err
	}
	if c.Status.Rejoin {
		if err := s.dropSurplus(ctx, sandboxID); err != nil {
			return fmt.Errorf("it was restored, but has not let go of a NIC that was detached since, which is still waited for: %w", err)
		}
	}
	if sb.Status.NICsChanged {
		if state, why := s.tellGuestOfNICs(ctx, sb); state == vm.NICGuestFailed {
			log.From(ctx).Warn("a restored guest has not configured its NICs", zap.String("sandbox", sandboxID), zap.String("reason", why))
		}
	}
	if len(c.Status.Shares) == 0 {
		return nil
	}
	sharing, cancel := context.WithTimeout(ctx, repairTimeout)
	defer cancel()
	if err := s.shareOnce(sharing, sb, c); err != nil && s.sharing(sandboxID) {
		s.work.Go(func() { s.repairShare(log.With(s.life, zap.String("sandbox", sandboxID)), sandboxID, true) }) //nolint:contextcheck // as above
		return fmt.Errorf("it was restored, but its share is not back yet, which goes on: %w", err)
	}
	return nil
}

// dropSurplus unplugs NICs that are not on record. While Rejoin is set, nobody changes those.
func (s *Service) dropSurplus(ctx context.Context, sandboxID string) error {
	ctx, cancel := context.WithTimeout(ctx, rejoinWait)
	defer cancel()
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil {
		return err
	}
	if err := s.deps.Hypervisor.UnplugSurplus(ctx, sandboxID, sb.NICs()); err != nil {
		return err
	}
	unlock, err := s.locks.Lock(ctx, sandboxID)
	if err != nil {
		return err
	}
	defer unlock()
	c, live := s.liveContainer(sandboxID)
	if !live || !c.Status.Rejoin || c.Status.Restore != nil {
		return nil // it has ended, or is put back once more
	}
	_, err = s.updateContainer(c.ID, "vm rejoined", func(st vm.ContainerStatus) (vm.ContainerStatus, error) {
		st.Rejoin = false
		return st, nil
	})
	return err
}

// rejoinLater is dropSurplus in the background, until it succeeds or the guest is paused or gone.
func (s *Service) rejoinLater(sandboxID string) {
	s.work.Go(func() {
		again(log.With(s.life, zap.String("sandbox", sandboxID)), "a NIC that a restored guest has too many", func(ctx context.Context) error {
			if c, live := s.liveContainer(sandboxID); !live || !c.Status.Rejoin || c.Status.Paused {
				return nil
			}
			return s.dropSurplus(ctx, sandboxID)
		})
	})
}
