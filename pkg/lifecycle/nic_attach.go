// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

// AttachNIC gives a VM another NIC: CNI attaches the sandbox once more, the running machine gets the device, and the guest's
// agent is told of its addresses. A sandbox in which no VM runs is attached all the same, and its next machine has the NIC. config is a CNI configuration in the place of
// the node's, nil for none. ref is as in vmOf, but no VM need run.
//
// The same NIC again, by name and all that was asked for it, is a success with the one that is there; AlreadyExists, with
// what differs, for another one of the name. FailedPrecondition if CNI gave other addresses than were asked for, or the VM is
// paused; ResourceExhausted if the machine has no port left. After an error all is as before. What goes wrong in the guest
// is no error: the answer says so.
func (s *Service) AttachNIC(ctx context.Context, ref string, spec vm.NICSpec, config []byte) (vm.NICAttachment, error) {
	sandboxID, err := s.sandboxOf(ref)
	if err != nil {
		return vm.NICAttachment{}, fmt.Errorf("attach NIC: %w", err)
	}
	if len(config) > 0 {
		digest := sha256.Sum256(config)
		spec.ConfigDigest = hex.EncodeToString(digest[:])
	}
	var done vm.NICAttachment
	err = s.nicCall(ctx, "attach", sandboxID, spec.Name, 0, func(ctx context.Context) (err error) {
		done, err = s.attachNIC(ctx, sandboxID, spec, config)
		return err
	})
	if err != nil {
		return vm.NICAttachment{}, err
	}
	return done, nil
}

// attachNIC does the work of AttachNIC under the NIC's lock. It finishes one that was cut short.
func (s *Service) attachNIC(ctx context.Context, sandboxID string, spec vm.NICSpec, config []byte) (vm.NICAttachment, error) {
	sb, err := s.connectNIC(ctx, sandboxID, spec, config)
	if err != nil {
		return vm.NICAttachment{}, err
	}
	done := vm.NICAttachment{NIC: s.nicView(sb, spec.Name)}
	done.Guest, done.Message = s.tellGuestOfNICs(ctx, sb)
	return done, nil
}

// connectNIC does all of it but in the guest.
func (s *Service) connectNIC(ctx context.Context, sandboxID string, spec vm.NICSpec, config []byte) (sb vm.Sandbox, err error) {
	rev := revert.New(ctx)
	defer rev.Fail(&err) //nolint:contextcheck // it has ctx since New
	// Given back before anything is undone: that waits for the guest.
	unlock, err := s.locks.Lock(ctx, sandboxID)
	if err != nil {
		return sb, err
	}
	defer unlock()
	sb, runs, err := s.forNICs(ctx, sandboxID)
	if err != nil {
		return sb, err
	}
	n, err := intendNIC(sb, spec)
	if _, begun := sb.Status.AttachedNIC(spec.Name); err == nil && !begun {
		err = s.mayAttach(ctx, sb, n, config)
	}
	if err == nil {
		err = s.betweenSnapshots(sb)
	}
	if err != nil {
		return sb, err
	}
	if n.State == vm.NICAttaching {
		if sb, err = s.recordNIC(sandboxID, "NIC attaching", n); err != nil {
			return sb, err
		}
		rev.Add("NIC", func(ctx context.Context) error { return s.takeBackNIC(ctx, sandboxID, spec.Name) })
	}
	if n.NIC == nil {
		if n, err = s.askCNI(ctx, sb, n, config); err != nil {
			return sb, err
		}
	}
	if runs {
		if err := s.plugNIC(ctx, sb, *n.NIC); err != nil {
			return sb, err
		}
	}
	if n.State == vm.NICAttached && !n.Unplugged {
		rev.Success()
		return sb, nil
	}
	if n.State == vm.NICAttaching {
		n.AttachedAt = s.now()
	}
	n.State, n.Unplugged = vm.NICAttached, false
	if sb, err = s.recordNIC(sandboxID, "NIC attached", n); err != nil {
		return sb, err
	}
	rev.Success()
	s.tell(vm.VMEvent{SandboxID: sandboxID, Kind: vm.NICAttachedEvent, Subject: spec.Name})
	return sb, nil
}

// mayAttach judges a NIC that was not begun before anything is on record of it.
func (s *Service) mayAttach(ctx context.Context, sb vm.Sandbox, n vm.AttachedNIC, config []byte) error {
	if err := s.gate(sb, vm.GateNICAdd); err != nil {
		return err
	}
	return s.deps.Network.PlanNIC(ctx, vm.NICRequest{Spec: n.Spec, Config: config, Number: n.Number})
}

// intendNIC is the NIC as it is to be on record: the one of the name, or a new one.
func intendNIC(sb vm.Sandbox, spec vm.NICSpec) (vm.AttachedNIC, error) {
	if spec.Name == vm.PrimaryNIC {
		return vm.AttachedNIC{}, fmt.Errorf("%s is the pod's own: %w", spec.Name, errdefs.ErrAlreadyExists)
	}
	if n, there := sb.Status.AttachedNIC(spec.Name); there {
		if differ := differences(n.Spec, spec); len(differ) > 0 {
			return n, fmt.Errorf("there is one of the name, with another %s: %w", strings.Join(differ, ", "), errdefs.ErrAlreadyExists)
		}
		if n.State == vm.NICDetaching {
			return n, fmt.Errorf("an earlier detachment of it has not ended; detach it once more: %w", errdefs.ErrFailedPrecondition)
		}
		return n, nil
	}
	nics := sb.NICs()
	if len(nics) >= vm.MaxNICs {
		return vm.AttachedNIC{}, fmt.Errorf("it has %d NICs, and more are not possible: %w", len(nics), errdefs.ErrResourceExhausted)
	}
	if err := freeMAC(sb, spec.Name, spec.MAC); err != nil {
		return vm.AttachedNIC{}, err
	}
	number := 1
	for slices.ContainsFunc(sb.Status.NICs, func(n vm.AttachedNIC) bool { return n.Number == number }) {
		number++
	}
	return vm.AttachedNIC{Spec: spec, State: vm.NICAttaching, Number: number}, nil
}

// differences names the fields in which a NIC is not the one that was asked for before.
func differences(was, is vm.NICSpec) (fields []string) {
	for _, f := range []struct {
		name string
		same bool
	}{
		{"network", was.Network == is.Network},
		{"cni_config", was.ConfigDigest == is.ConfigDigest},
		{"mac", strings.EqualFold(was.MAC, is.MAC)},
		{"ips", slices.Equal(was.IPs, is.IPs)},
		{"port_id", was.PortID == is.PortID},
		{"subnet", was.Subnet == is.Subnet},
		{"vpc", was.VPC == is.VPC},
		{"tag", was.Tag == is.Tag},
		{"cni_args", maps.Equal(was.Args, is.Args)},
	} {
		if !f.same {
			fields = append(fields, f.name)
		}
	}
	return fields
}

// freeMAC refuses an address that another NIC of the machine has: guests tell their NICs by it.
func freeMAC(sb vm.Sandbox, name, mac string) error {
	for _, other := range sb.NICs() {
		if other.Name != name && mac != "" && strings.EqualFold(other.MAC, mac) {
			return fmt.Errorf("%s has the MAC %s: %w", other.Name, mac, errdefs.ErrFailedPrecondition)
		}
	}
	return nil
}

// askCNI attaches the sandbox once more, and puts on record what came of it.
func (s *Service) askCNI(ctx context.Context, sb vm.Sandbox, n vm.AttachedNIC, config []byte) (vm.AttachedNIC, error) {
	req := nicRequest(sb, n)
	// What a call before this one has left.
	if err := s.deps.Network.DetachNIC(ctx, req); err != nil {
		return n, err
	}
	req.Config = config
	nic, err := s.deps.Network.AttachNIC(ctx, req)
	if err != nil {
		return n, err
	}
	if err := freeMAC(sb, n.Spec.Name, nic.MAC); err != nil {
		return n, err
	}
	nic.Routes = withoutTaken(nic.Routes, sb.NICs())
	n.NIC = &nic
	_, err = s.recordNIC(sb.ID, "NIC added", n)
	return n, err
}

// withoutTaken leaves out routes to where another NIC leads: as with CNI's own plugins, the first one has it, and the way
// out of the guest stays the pod's.
func withoutTaken(routes []vm.Route, others []vm.NIC) []vm.Route {
	return slices.DeleteFunc(slices.Clone(routes), func(r vm.Route) bool {
		return slices.ContainsFunc(others, func(other vm.NIC) bool {
			return slices.ContainsFunc(other.Routes, func(has vm.Route) bool { return has.To == r.To })
		})
	})
}

// plugNIC gives the running machine a NIC: without a carrier until its tap is down, so that no frame leaks into the host. The kernel
// takes as long to move a tap as a guest to find its device.
func (s *Service) plugNIC(ctx context.Context, sb vm.Sandbox, nic vm.NIC) error {
	if err := s.deps.Hypervisor.PlugNIC(ctx, sb.ID, nic); err != nil {
		return err
	}
	if err := s.deps.Network.TapDown(ctx, nic); err != nil {
		return err
	}
	linked := beside(ctx, "set the link of NIC "+nic.Name, func(ctx context.Context) error {
		return s.deps.Hypervisor.SetLink(ctx, sb.ID, nic)
	})
	wiring := sb.Wiring()
	wiring.NICs = []vm.NIC{nic}
	err := s.deps.Network.Wire(ctx, wiring)
	if err != nil {
		err = fmt.Errorf("wire it: %w", err)
	}
	return errors.Join(err, linked())
}
