// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/vm"
)

// resizeWait is how long a guest is waited for where the caller does not say. No wait is longer than MaxResizeWait, which
// leaves time for the rest of the work.
const (
	resizeWait    = 30 * time.Second
	MaxResizeWait = 2 * time.Minute
)

// Resize gives a VM other CPUs, other memory, or another place among the host's CPUs, and says what it has then. ref is as
// in sandboxOf. What is asked for counts from then on before annotations and limits, also for later machines of the sandbox;
// where no VM runs it counts for the next.
//
// CPUs are added to a guest that runs, within its headroom; fewer than it has are a quota. Memory is plugged and unplugged
// within its headroom; the guest is waited for, and what it has taken or given back by then is what it has: partly.
//
// InvalidArgument for what no VM can have. FailedPrecondition, with what is possible, for what this one cannot have, or its
// limits have no room for; where a gate is closed; while it stops, reboots, or is paused and was to change its memory. All is as
// it was then. A caller that goes away leaves the work under way, and so does the end of vmlet.
func (s *Service) Resize(ctx context.Context, ref string, req vm.ResizeRequest) (vm.Resized, error) {
	if err := checkResize(req.SizeAsk); err != nil {
		return vm.Resized{}, fmt.Errorf("resize: %w", err)
	}
	if req.Wait == 0 {
		req.Wait = resizeWait
	}
	req.Wait = min(req.Wait, MaxResizeWait)
	sandboxID, err := s.sandboxOf(ref)
	if err != nil {
		return vm.Resized{}, fmt.Errorf("resize: %w", err)
	}
	var did vm.Resized
	err = s.resizing(ctx, "resize the VM of sandbox "+sandboxID, sandboxID, func(ctx context.Context) error {
		return s.observed("vm_resize", func() (err error) {
			did, err = s.resizeVM(ctx, sandboxID, req)
			return err
		})
	})
	if err != nil {
		return vm.Resized{}, fmt.Errorf("resize the VM of sandbox %s: %w", sandboxID, err)
	}
	return did, nil
}

// cpuList is how the kernel writes a set of CPUs or memory nodes.
var cpuList = regexp.MustCompile(`^[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*$`)

func checkResize(ask vm.SizeAsk) error {
	for what, set := range map[string]string{"CPUs": ask.CpusetCPUs, "memory nodes": ask.CpusetMems} {
		if set != "" && !cpuList.MatchString(set) {
			return fmt.Errorf("%q is no set of %s; write one as 0-2,7: %w", set, what, errdefs.ErrInvalidArgument)
		}
	}
	return ask.Check(annotations.MaxVCPUs)
}

// resizing does what may give a VM another size, one thing at a time, after what an earlier life has left of that. It goes on
// when its caller goes away.
func (s *Service) resizing(ctx context.Context, what, sandboxID string, do func(context.Context) error) error {
	return s.shareErr(ctx, what+" "+newID(), func(ctx context.Context) error {
		unlock, err := s.resizeLocks.Lock(ctx, sandboxID)
		if err != nil {
			return err
		}
		defer unlock()
		if err := s.resumeResize(ctx, sandboxID); err != nil {
			return fmt.Errorf("finish an earlier resize: %w", err)
		}
		return do(ctx)
	})
}

// locked does something under the sandbox's lock.
func (s *Service) locked(ctx context.Context, sandboxID string, do func() error) error {
	unlock, err := s.locks.Lock(ctx, sandboxID)
	if err != nil {
		return err
	}
	defer unlock()
	return do()
}

func (s *Service) resizeVM(ctx context.Context, sandboxID string, req vm.ResizeRequest) (did vm.Resized, err error) {
	var before vm.Sandbox
	var was vm.Container
	running := false
	var needed int64
	if req.Memory > 0 {
		needed = s.needed(ctx, sandboxID)
	}
	err = s.locked(ctx, sandboxID, func() (err error) {
		if before, err = s.deps.Store.Sandboxes.Get(sandboxID); err != nil {
			return err
		}
		was, running = s.liveContainer(sandboxID)
		return s.beginVMResize(ctx, before, was, running, req, needed)
	})
	if err != nil {
		return did, err
	}
	if !running {
		return askedLater(before.Status.Asked, req.SizeAsk), nil
	}
	short, err := s.finishResize(ctx, sandboxID)
	if err != nil {
		return did, err
	}
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil {
		return did, err
	}
	c, err := s.deps.Store.Containers.Get(was.ID)
	if err != nil {
		return did, err
	}
	return resizedTo(was, c, sb, req.SizeAsk, short), nil
}

// beginVMResize judges what is asked for and begins with it. Where no VM runs it is only recorded.
func (s *Service) beginVMResize(ctx context.Context, sb vm.Sandbox, c vm.Container, live bool, req vm.ResizeRequest, needed int64) error {
	if sb.Status.State != vm.SandboxReady {
		return fmt.Errorf("the sandbox is %s, not ready: %w", sb.Status.State, errdefs.ErrFailedPrecondition)
	}
	next := sb.Status.Asked.Merge(req.SizeAsk)
	if !live {
		if err := s.gateAsk(sb, sb.Status.Asked, req.SizeAsk); err != nil {
			return err
		}
		if err := s.mayBeMade(sb, next); err != nil {
			return err
		}
		return s.recordAsked(sb, next)
	}
	if c.Status.State != vm.ContainerRunning {
		return fmt.Errorf("container %s is %s: start it first: %w", c.ID, c.Status.State, errdefs.ErrFailedPrecondition)
	}
	if err := s.mayResize(sb, c); err != nil {
		return err
	}
	to, err := s.sizeAsked(sb, c, req.SizeAsk)
	if err != nil {
		return err
	}
	if req.Memory > 0 {
		to.Memory = spared(c.Status.Size, to.Memory, needed)
	}
	terms := termsOf(sb, c)
	terms.Asked = c.Status.Asked.Merge(req.SizeAsk)
	if req.Memory > 0 {
		terms.Asked.Memory = to.Memory // as it was rounded
	}
	return s.beginResize(ctx, sb, c, s.newResize(sb, c, to, terms, req.Wait))
}

// mayBeMade refuses a size that no later machine of the sandbox could be made with, whatever its container says. What limits have no
// room for is no reason: they may have by then.
func (s *Service) mayBeMade(sb vm.Sandbox, next vm.SizeAsk) error {
	ask, err := annotations.Parse(sb.Spec.AllSettings())
	if err != nil {
		return err
	}
	sb.Status.Asked = next
	ask = asked(ask, askedNow(sb, vm.ContainerSpec{}, s.Accel()))
	_, err = sizeOf(sb.Present(), vm.ContainerSpec{}, ask, *s.defaults.Load(), s.Accel())
	return err
}

// mayResize refuses to resize a VM that something else is being done to.
func (s *Service) mayResize(sb vm.Sandbox, c vm.Container) error {
	if err := settled(c); err != nil {
		return err
	}
	if c.Status.Off() {
		return errOff
	}
	return s.betweenSnapshots(sb)
}

// sizeAsked judges what is asked for, and returns the size that the machine is to have for it.
func (s *Service) sizeAsked(sb vm.Sandbox, c vm.Container, ask vm.SizeAsk) (vm.MachineSize, error) {
	to := c.Status.Size
	if to == (vm.MachineSize{}) {
		return to, fmt.Errorf("its size is not on record, since an older vmlet made it; create its container anew: %w", errdefs.ErrFailedPrecondition)
	}
	if err := s.gateAsk(sb, vm.SizeAsk{VCPUs: usable(c), Memory: to.Memory}, ask); err != nil {
		return to, err
	}
	if s.cfg.LibvirtCgroups && (ask.VCPUs > 0 && ask.VCPUs < to.VCPUs || ask.CpusetCPUs != "" || ask.CpusetMems != "" || ask.CPUShares != 0) {
		return to, fmt.Errorf("less CPU time, and where QEMU runs, are the matter of its cgroup, which libvirt owns (cgroups: libvirt): %w", errdefs.ErrFailedPrecondition)
	}
	if most := max(to.VCPUs, to.MaxVCPUs); ask.VCPUs > most {
		return to, fmt.Errorf("the guest has %d CPUs and places for %d, not for %d; for more give the pod the annotation %s and make it anew: %w",
			to.VCPUs, most, ask.VCPUs, annotations.VCPUsMax, errdefs.ErrFailedPrecondition)
	}
	to.VCPUs = max(to.VCPUs, ask.VCPUs)
	if ask.Memory == 0 || ask.Memory == to.Memory {
		return to, nil
	}
	to.Memory = wholeBlocks(to, ask.Memory)
	if err := withinHeadroom(to, to.Memory); err != nil && to.Memory != c.Status.Size.Memory {
		return to, err
	}
	if room := roomOf(sb.Present(), c.Present(), s.Accel()); room.limited && to.Memory > room.bytes {
		return to, fmt.Errorf("there is only room for %d MiB: %s: %w", max(room.bytes, 0)/vm.MiB, room.why, errdefs.ErrFailedPrecondition)
	}
	if c.Status.Paused && to.Memory != c.Status.Size.Memory {
		return to, fmt.Errorf("it is paused, and its guest can neither take nor give back memory; resume it first: %w", errdefs.ErrFailedPrecondition)
	}
	return to, nil
}

// usable is how many CPUs a VM's owner has left it.
func usable(c vm.Container) int {
	if asked := c.Status.Asked.VCPUs; asked > 0 {
		return min(asked, c.Status.Size.VCPUs)
	}
	return c.Status.Size.VCPUs
}

// gateAsk asks the gates that stand before a change of what is.
func (s *Service) gateAsk(sb vm.Sandbox, is, ask vm.SizeAsk) error {
	var gates []vm.Gate
	switch {
	case ask.VCPUs > is.VCPUs:
		gates = append(gates, vm.GateCPUAdd)
	case ask.VCPUs > 0 && ask.VCPUs < is.VCPUs:
		gates = append(gates, vm.GateCPURemove)
	}
	switch {
	case ask.Memory > is.Memory:
		gates = append(gates, vm.GateMemoryAdd)
	case ask.Memory > 0 && ask.Memory < is.Memory:
		gates = append(gates, vm.GateMemoryRemove)
	}
	for _, g := range gates {
		if err := s.gate(sb, g); err != nil {
			return err
		}
	}
	return nil
}

// gateSize asks the gates that stand before a change of a machine's size.
func (s *Service) gateSize(sb vm.Sandbox, from, to vm.MachineSize) error {
	return s.gateAsk(sb, vm.SizeAsk{VCPUs: from.VCPUs, Memory: from.Memory}, vm.SizeAsk{VCPUs: to.VCPUs, Memory: to.Memory})
}

func (s *Service) recordAsked(sb vm.Sandbox, ask vm.SizeAsk) error {
	if sb.Status.Asked == ask {
		return nil
	}
	_, err := s.updateSandbox(sb.ID, "vm size asked", func(st vm.SandboxStatus) (vm.SandboxStatus, error) {
		st.Asked = ask
		return st, nil
	})
	return err
}
