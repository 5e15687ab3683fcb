// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

// A checkpoint's memory knows the devices of its moment, and its manifest what they are: NICs are attached again, by the CNI
// of the node that it is restored on, disks that are ours are in it, and callers' disks, which the guest can only read, must be
// there. The share is in neither: the guest is without it for the moment of its memory, and is given the one of its new
// container.

// holdsDevices refuses what was attached to a VM and would be missing in a checkpoint, or is just changing.
func holdsDevices(sb vm.Sandbox, c vm.Container) error {
	if names := writableDisks(sb); len(names) > 0 {
		return fmt.Errorf("the guest can write to disks that were attached to it by their path (%s), and what callers keep is in no checkpoint; detach them: %w",
			strings.Join(names, ", "), errdefs.ErrFailedPrecondition)
	}
	for _, n := range sb.Status.NICs {
		if n.Unplugged {
			return fmt.Errorf("the guest has let go of its NIC %s, which is on record until it is detached; attach it again, or detach it: %w",
				n.Spec.Name, errdefs.ErrFailedPrecondition)
		}
	}
	return mayTakeMemory(sb, c)
}

// heldDevices are the devices of a machine for its checkpoint's manifest.
func (s *Service) heldDevices(ctx context.Context, sb vm.Sandbox, out *vm.Checkpoint) error {
	if sb.Status.Network != nil {
		out.NICs = sb.Status.Network.NICs
	}
	for _, n := range sb.Status.NICs {
		held := vm.CheckpointNIC{AttachedNIC: n}
		if n.Spec.ConfigDigest != "" {
			config, err := s.deps.Network.NICConfig(ctx, sb.ID, n.Spec.Name)
			if err != nil {
				return err
			}
			held.Config = config
		}
		out.AttachedNICs = append(out.AttachedNICs, held)
	}
	for _, d := range sb.Status.DataDisks {
		if d.State != vm.DataDiskDetached {
			out.DataDisks = append(out.DataDisks, anywhere(d))
		}
	}
	return nil
}

// mayGiveDevices refuses a checkpoint whose devices this node has not got, or does not let a pod have.
func (s *Service) mayGiveDevices(ctx context.Context, sb vm.Sandbox, from vm.Checkpoint) error {
	for _, n := range from.AttachedNICs {
		if n.NIC == nil {
			return fmt.Errorf("the checkpoint does not say what its NIC %s is: %w", n.Spec.Name, errdefs.ErrDataLoss)
		}
		if err := s.gate(sb, vm.GateNICAdd); err != nil {
			return fmt.Errorf("NIC %s: %w", n.Spec.Name, err)
		}
		if err := s.deps.Network.PlanNIC(ctx, vm.NICRequest{Spec: n.Spec, Config: n.Config, Number: n.Number}); err != nil {
			return notHere("NIC "+n.Spec.Name, err)
		}
	}
	for _, d := range from.DataDisks {
		if err := s.gate(sb, vm.GateDiskAdd); err != nil {
			return fmt.Errorf("disk %q: %w", d.Name, err)
		}
		if d.Own() {
			continue
		}
		found, err := s.deps.Disks.Source(ctx, d.Spec.Path, d.Spec.Format, true)
		if err != nil {
			return notHere(fmt.Sprintf("disk %q", d.Name), err)
		}
		if err := sameDisk(d, found.Size); err != nil {
			return err
		}
	}
	return nil
}

// notHere is a device that cannot be had on this node. Not NotFound: who restores a pod would take that for its checkpoint or
// its image.
func notHere(what string, err error) error {
	return fmt.Errorf("the checkpointed machine has %s, which cannot be had here: %s: %w", what, err, errdefs.ErrFailedPrecondition) //nolint:errorlint // as said
}

// sameDisk refuses a file that is not the one the guest has read, as far as that can be seen without reading it.
func sameDisk(had vm.DataDisk, size int64) error {
	if !had.Spec.ReadOnly {
		return fmt.Errorf("the checkpoint lists a disk %q that its guest could write to: %w", had.Name, errdefs.ErrFailedPrecondition)
	}
	if size != had.Size {
		return fmt.Errorf("disk %q: %s has %d bytes, and had %d when the checkpoint was taken: %w", had.Name, had.Spec.Path, size, had.Size, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// giveNICs has CNI attach the NICs of a checkpoint to a sandbox that has its own. Who tears its network down detaches them. It
// returns the sandbox as it is to be on record.
func (s *Service) giveNICs(ctx context.Context, sb vm.Sandbox, from vm.Checkpoint) (vm.Sandbox, error) {
	network := *sb.Status.Network
	network.NICs = slices.Clone(network.NICs)
	for i := range network.NICs {
		nic := &network.NICs[i]
		nic.Down = slices.ContainsFunc(from.NICs, func(had vm.NIC) bool { return had.Name == nic.Name && had.Down })
		sb.Status.NICsChanged = sb.Status.NICsChanged || nic.Down
	}
	sb.Status.Network = &network
	for _, had := range from.AttachedNICs {
		n := vm.AttachedNIC{Spec: had.Spec, State: vm.NICAttached, Number: had.Number, AttachedAt: s.now()}
		req := nicRequest(sb, n)
		req.Config = had.Config
		var nic vm.NIC
		if err := askForFormer(ctx, sb.ID, *had.NIC, func(mac string, ips []string) (err error) {
			req.MAC, req.IPs = mac, ips
			nic, err = s.deps.Network.AttachNIC(ctx, req)
			return err
		}); err != nil {
			return sb, fmt.Errorf("NIC %s: %w", n.Spec.Name, err)
		}
		if err := freeMAC(sb, n.Spec.Name, nic.MAC); err != nil {
			return sb, err
		}
		nic.Routes, nic.Down = withoutTaken(nic.Routes, sb.NICs()), had.NIC.Down
		n.NIC = &nic
		sb.Status = sb.Status.WithNIC(n)
		sb.Status.NICsChanged = true
	}
	return sb, nil
}

// askForFormer asks a network for the addresses that a guest has on a NIC. One that does not have them to give gives others.
func askForFormer(ctx context.Context, sandboxID string, had vm.NIC, ask func(mac string, ips []string) error) error {
	var ips []string
	for _, ip := range had.IPs {
		ips = append(ips, ip.Prefix.String())
	}
	err := ask(had.MAC, ips)
	if err == nil || errors.Is(err, revert.ErrIncomplete) || ctx.Err() != nil {
		return err
	}
	log.From(ctx).Warn("the network does not give the guest the addresses that it has; others are asked for",
		zap.String("sandbox", sandboxID), zap.String("nic", had.Name), zap.String("mac", had.MAC), zap.Strings("ips", ips), zap.Error(err))
	return ask("", nil)
}

// giveDisks puts the disks of a checkpoint on the record of a sandbox that is being made.
func (s *Service) giveDisks(ctx context.Context, sandboxID string, from vm.Checkpoint) error {
	for _, had := range from.DataDisks {
		d := had
		d.ID, d.Identity, d.CreatedAt, d.State = newID(), "", s.now(), vm.DataDiskAttached
		if d.Own() {
			if err := s.intendRestored(sandboxID, d); err != nil {
				return err
			}
			continue
		}
		d, err := s.claimSource(ctx, sandboxID, "data disk restored", d)
		if err != nil {
			return notHere(fmt.Sprintf("disk %q", had.Name), err)
		}
		if err := sameDisk(had, d.Size); err != nil {
			return err
		}
	}
	return nil
}

// readdressed tells whether a guest has other addresses than its network gave.
func readdressed(was, now []vm.NIC) bool {
	return slices.ContainsFunc(was, func(nic vm.NIC) bool {
		_, changed := changedNIC(nic, now)
		return changed
	})
}

// changedNIC finds the NIC of a name, if its addresses are others.
func changedNIC(was vm.NIC, now []vm.NIC) (vm.NIC, bool) {
	i := slices.IndexFunc(now, func(nic vm.NIC) bool { return nic.Name == was.Name })
	if i < 0 || sameAddresses(was, now[i]) {
		return vm.NIC{}, false
	}
	return now[i], true
}

func sameAddresses(a, b vm.NIC) bool {
	return strings.EqualFold(a.MAC, b.MAC) && slices.Equal(a.IPs, b.IPs)
}
