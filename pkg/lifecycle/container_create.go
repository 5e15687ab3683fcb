// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

// CreateContainer prepares one boot of the sandbox's VM and returns the container's
// ID: the root disk (as the pod asks: made now, found in the sandbox, or one that outlives
// it), the seed and the domain's definition. Nothing runs yet.
//
// A retry of the same attempt waits for the first call and returns the same ID. While
// another container of the sandbox is live it is FailedPrecondition, unless that one
// is an earlier attempt of the same name that was never started: it is superseded.
func (s *Service) CreateContainer(ctx context.Context, sandboxRef string, spec vm.ContainerSpec) (string, error) {
	sb, err := s.Sandbox(sandboxRef)
	if err != nil {
		return "", err
	}
	// With the image: who asks for another one must not be given this one's ID.
	return s.share(ctx, "create container "+spec.Key(sb.ID)+" from "+spec.ImageRef, func(ctx context.Context) (id string, err error) {
		err = s.observed("container_create", func() error {
			unlock, err := s.locks.Lock(ctx, sb.ID)
			if err != nil {
				return err
			}
			defer unlock()
			id, err = s.createContainer(ctx, sb.ID, spec)
			return err
		})
		return id, err
	})
}

// createContainer does the work of CreateContainer under the sandbox's lock.
func (s *Service) createContainer(ctx context.Context, sandboxID string, spec vm.ContainerSpec) (id string, err error) {
	sb, err := s.deps.Store.Sandboxes.Get(sandboxID)
	if err != nil {
		return "", fmt.Errorf("create container %s: sandbox %s: %w", spec.Name, sandboxID, err)
	}
	if sb.Status.State != vm.SandboxReady {
		return "", fmt.Errorf("create container %s: sandbox %s is %s, not ready: %w",
			spec.Name, sb.ID, sb.Status.State, errdefs.ErrFailedPrecondition)
	}
	if err := s.clearRemains(ctx, sb.ID); err != nil {
		return "", fmt.Errorf("create container %s: %w", spec.Name, err)
	}
	if found, err := s.sameAttempt(sb, spec); found != "" || err != nil {
		return found, err
	}
	if err := s.makeRoom(ctx, sb, spec); err != nil {
		return "", err
	}
	if err := s.merges.interrupt(ctx, sb.ID); err != nil {
		return "", fmt.Errorf("create container %s: %w", spec.Name, err)
	}
	if err := s.undoSnapshotLocked(ctx, sb.ID); err != nil {
		return "", fmt.Errorf("create container %s: %w", spec.Name, err)
	}
	if sb, err = s.deps.Store.Sandboxes.Get(sandboxID); err != nil {
		return "", err
	}
	if err := s.forgetFreshDisks(ctx, sb); err != nil {
		return "", fmt.Errorf("create container %s: disk of an earlier one: %w", spec.Name, err)
	}
	if sb, err = s.readyDataDisks(ctx, sb); err != nil {
		return "", fmt.Errorf("create container %s: %w", spec.Name, err)
	}
	ask, err := annotations.Parse(sb.Spec.AllSettings())
	if err != nil {
		return "", fmt.Errorf("create container %s: %w", spec.Name, err)
	}
	wants := askedNow(sb, spec, s.Accel())
	sz, err := sizeOf(sb.Present(), spec, asked(ask, wants), *s.defaults.Load(), s.Accel())
	if err != nil {
		return "", fmt.Errorf("create container %s: %w", spec.Name, err)
	}
	c, err := s.newContainer(sb, spec, ask)
	if err != nil {
		return "", fmt.Errorf("create container %s: %w", spec.Name, err)
	}
	c.Status.Size, c.Status.Asked = sz, wants
	c, disk, err := s.recordContainer(ctx, sb, c, ask)
	if err != nil {
		return "", fmt.Errorf("create container %s: %w", spec.Name, err)
	}
	if err := s.buildContainer(ctx, sb, c, disk, ask); err != nil {
		return "", fmt.Errorf("create container %s: %w", spec.Name, err)
	}
	if disk.persistent != "" && s.untidySandbox(sb) {
		s.tidyLater(sb.ID) //nolint:contextcheck // what its holder before this one has left to do
	}
	return c.ID, nil
}

// sameAttempt finds the container that a retried call made the first time.
func (s *Service) sameAttempt(sb vm.Sandbox, spec vm.ContainerSpec) (string, error) {
	for _, c := range s.containersOf(sb.ID) {
		if c.Spec.Name != spec.Name || c.Spec.Attempt != spec.Attempt {
			continue
		}
		if c.Status.State == vm.ContainerCreated && c.Spec.ImageRef == spec.ImageRef {
			return c.ID, nil
		}
		return "", fmt.Errorf("container %s attempt %d of sandbox %s exists as %s from image %s and is %s; remove it or use the next attempt: %w",
			spec.Name, spec.Attempt, sb.ID, c.ID, c.Spec.ImageRef, c.Status.State, errdefs.ErrAlreadyExists)
	}
	return "", nil
}

// makeRoom refuses a second live container, or supersedes one that was never started.
func (s *Service) makeRoom(ctx context.Context, sb vm.Sandbox, spec vm.ContainerSpec) error {
	live, ok := s.liveContainer(sb.ID)
	if !ok {
		return nil
	}
	if live.Status.State == vm.ContainerCreated && live.Spec.Name == spec.Name && live.Spec.Attempt < spec.Attempt {
		return s.exitUnstarted(ctx, live, vm.ReasonSuperseded, fmt.Sprintf("attempt %d took its place before it was started", spec.Attempt))
	}
	// Without IDs: kubelet makes an event of it each time it tries, and counts those that are alike as one.
	// It does not tell us what kind a container is; the way out is one for all kinds.
	return fmt.Errorf("create container %s: container %s is %s, and a VM pod runs one container at a time: "+
		"instead of a second container or a sidecar (an init container with restartPolicy Always) use a program inside the guest or another pod, "+
		"instead of an ephemeral container use exec: %w",
		spec.Name, live.Spec.Name, live.Status.State, errdefs.ErrFailedPrecondition)
}

// newContainer judges what was asked for, as far as it can be without a side effect.
func (s *Service) newContainer(sb vm.Sandbox, spec vm.ContainerSpec, ask vm.Overrides) (vm.Container, error) {
	if spec.HasMain() && !s.hasAgentPort(ask) {
		return vm.Container{}, fmt.Errorf("a command runs by vmlet-agent in the guest, which this machine has no port for (annotation %s, defaults.agentChannel); leave the command out, or let the guest have the agent: %w",
			annotations.GuestAgent, errdefs.ErrFailedPrecondition)
	}
	if err := s.mayBootBy(ask); err != nil {
		return vm.Container{}, err
	}
	files, shares, err := judgeMounts(spec.Mounts)
	if err != nil {
		return vm.Container{}, err
	}
	return vm.Container{
		ID: newID(), SandboxID: sb.ID, Spec: spec, CreatedAt: s.containerCreatedAt(sb.ID),
		Status: vm.ContainerStatus{State: vm.ContainerCreating, Files: files, Shares: shares},
	}, nil
}

// recordContainer resolves the image and records the intent, both while no image can
// be removed: from then on the records refer to the image and keep it.
func (s *Service) recordContainer(ctx context.Context, sb vm.Sandbox, c vm.Container, ask vm.Overrides) (vm.Container, rootDisk, error) {
	s.imageUse.RLock()
	defer s.imageUse.RUnlock()
	image, err := s.deps.Images.Resolve(ctx, c.Spec.ImageRef)
	if err != nil {
		return vm.Container{}, rootDisk{}, fmt.Errorf("image %q: %w", c.Spec.ImageRef, err)
	}
	c.Spec.ImageID = image.ID
	if err := s.deps.Store.Containers.Create(c.ID, c, "container creating"); err != nil {
		return vm.Container{}, rootDisk{}, err
	}
	disk, err := s.intendRoot(sb, c, image, ask)
	if err != nil {
		return vm.Container{}, rootDisk{}, errors.Join(err, s.deps.Store.Containers.Delete(c.ID, "container abandoned"))
	}
	return c, disk, nil
}

// buildContainer makes the files and the domain of a recorded container.
func (s *Service) buildContainer(ctx context.Context, sb vm.Sandbox, c vm.Container, disk rootDisk, ask vm.Overrides) (err error) {
	defer func() {
		if err != nil {
			err = s.abandonContainer(c.ID, err)
		}
	}()
	rev := revert.New(ctx)
	defer rev.Fail(&err) //nolint:contextcheck // it has ctx since New

	if disk.undo != nil {
		rev.Add("root disk", disk.undo)
	}
	// It takes the longest, and nothing needs it before the boot.
	root := beside(ctx, "root disk", func(ctx context.Context) error { return s.makeRoot(ctx, disk) })
	defer func() { _ = root() }() //nolint:errcheck // where another step failed: that is the error to tell
	for _, console := range s.consoles(c) {
		rev.Add("spool", func(ctx context.Context) error { return s.deps.Disks.RemoveFile(ctx, console.Spool) })
		if err := s.deps.Disks.CreateSpool(ctx, console.Spool); err != nil {
			return fmt.Errorf("spool: %w", err)
		}
	}
	rev.Add("shares", func(ctx context.Context) error { return s.deps.Shares.Remove(ctx, sb.ID) })
	if c.Status.Shares, err = s.makeShares(ctx, sb.ID, c.Status.Shares); err != nil {
		return fmt.Errorf("shares: %w", err)
	}
	if err := s.writeSeed(ctx, rev, sb, c, ask); err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	rev.Add("domain definition", func(ctx context.Context) error { return s.deps.Hypervisor.Undefine(ctx, sb.ID) })
	if err := s.deps.Hypervisor.Define(ctx, s.machineOf(sb, c, disk.Disk, ask)); err != nil {
		return fmt.Errorf("define the domain: %w", err)
	}
	if err := root(); err != nil {
		return fmt.Errorf("root disk: %w", err)
	}
	if _, err := s.updateContainer(c.ID, "container created", func(st vm.ContainerStatus) (vm.ContainerStatus, error) {
		st.Shares = c.Status.Shares
		return st.To(vm.ContainerCreated)
	}); err != nil {
		return err
	}
	rev.Success()
	return nil
}

// makeShares makes the tree of this boot in place of an earlier one's: each container of a
// sandbox has mounts of its own.
func (s *Service) makeShares(ctx context.Context, sandboxID string, shares []vm.ShareMount) ([]vm.ShareMount, error) {
	if err := s.deps.Shares.Remove(ctx, sandboxID); err != nil {
		return nil, err
	}
	if len(shares) == 0 {
		return nil, nil
	}
	return s.deps.Shares.Create(ctx, sandboxID, shares)
}

// abandonContainer ends a failed creation. The record goes, unless undo left something
// behind: then it stays as Creating, invisible, for StopSandbox and recovery to undo.
func (s *Service) abandonContainer(id string, cause error) error {
	if errors.Is(cause, revert.ErrIncomplete) {
		return cause
	}
	return errors.Join(cause, s.deps.Store.Containers.Delete(id, "container abandoned"))
}

// undoCreate takes down what a creation that did not end has left. The root disk stays
// where a retry finds it, unless it was for this container alone. A VM that runs can
// only be one that an earlier start has left; its definition could not be removed.
func (s *Service) undoCreate(ctx context.Context, c vm.Container) error {
	if err := s.endStray(ctx, c.SandboxID); err != nil {
		return err
	}
	if err := s.deps.Hypervisor.Undefine(ctx, c.SandboxID); err != nil {
		return err
	}
	if err := s.deps.Shares.Remove(ctx, c.SandboxID); err != nil {
		return err
	}
	paths := []string{s.cfg.Paths.Seed(c.SandboxID)}
	for _, console := range s.consoles(c) {
		paths = append(paths, console.Spool)
	}
	for _, path := range paths {
		if err := s.deps.Disks.RemoveFile(ctx, path); err != nil {
			return err
		}
	}
	if err := s.forgetDiskOf(ctx, c); err != nil {
		return err
	}
	return s.deps.Store.Containers.Delete(c.ID, "container abandoned")
}

// updateContainer changes the status of a container, and tells clients what it means.
func (s *Service) updateContainer(id, step string, change func(vm.ContainerStatus) (vm.ContainerStatus, error)) (vm.Container, error) {
	var before vm.ContainerState
	c, err := s.deps.Store.Containers.Update(id, step, func(c vm.Container) (vm.Container, error) {
		before = c.Status.State
		next, err := change(c.Status)
		if err != nil {
			return c, err
		}
		c.Status = next
		return c, nil
	})
	if err == nil && c.Status.State != before {
		s.tellOf(c.SandboxID, id, containerEvents[c.Status.State]...)
	}
	if err == nil {
		s.tellVM(c.SandboxID)
	}
	return c, err
}
