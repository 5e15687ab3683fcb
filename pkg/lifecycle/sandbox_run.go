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

// RunSandbox gives a pod its identity and its network, and returns the sandbox's ID.
// The VM comes with the first container.
//
// A retry of the same attempt waits for the first call and returns the same ID, also
// if the first caller is gone. An attempt that already ended is AlreadyExists.
func (s *Service) RunSandbox(ctx context.Context, spec vm.SandboxSpec) (id string, err error) {
	if _, err := annotations.Parse(spec.AllSettings()); err != nil {
		return "", fmt.Errorf("run sandbox %s/%s: %w", spec.Namespace, spec.Name, err)
	}
	return s.share(ctx, "run sandbox "+spec.Key(), func(ctx context.Context) (id string, err error) {
		err = s.observed("sandbox_run", func() error { id, err = s.runSandbox(ctx, spec); return err })
		return id, err
	})
}

func (s *Service) runSandbox(ctx context.Context, spec vm.SandboxSpec) (id string, err error) {
	if found, ok := s.sandboxByKey(spec.Key()); ok {
		if found.Status.State == vm.SandboxReady {
			return found.ID, nil
		}
		return "", fmt.Errorf("sandbox %s of pod %s/%s attempt %d is %s; remove it or use the next attempt: %w",
			found.ID, spec.Namespace, spec.Name, spec.Attempt, found.Status.State, errdefs.ErrAlreadyExists)
	}
	sb := vm.Sandbox{
		ID: newID(), Spec: spec, CreatedAt: s.sandboxCreatedAt(spec),
		Status: vm.SandboxStatus{State: vm.SandboxCreating},
	}
	unlock, err := s.locks.Lock(ctx, sb.ID)
	if err != nil {
		return "", err
	}
	defer unlock()

	if err := s.deps.Store.Sandboxes.Create(sb.ID, sb, "sandbox creating"); err != nil {
		return "", fmt.Errorf("run sandbox %s: %w", sb.ID, err)
	}
	defer func() {
		if err != nil {
			err = s.abandonSandbox(sb.ID, err)
		}
	}()
	rev := revert.New(ctx)
	defer rev.Fail(&err) //nolint:contextcheck // it has ctx since New

	rev.Add("network setup", func(ctx context.Context) error {
		return s.deps.Network.Teardown(ctx, networkRequest(sb))
	})
	network, err := s.deps.Network.Setup(ctx, networkRequest(sb))
	if err != nil {
		return "", fmt.Errorf("run sandbox %s: set up its network: %w", sb.ID, err)
	}
	if _, err := s.updateSandbox(sb.ID, "sandbox ready", func(st vm.SandboxStatus) (vm.SandboxStatus, error) {
		st.Network = &network
		return st.To(vm.SandboxReady)
	}); err != nil {
		return "", fmt.Errorf("run sandbox %s: %w", sb.ID, err)
	}
	rev.Success()
	return sb.ID, nil
}

// abandonSandbox ends a failed creation: the record goes, unless undo left something
// behind, in which case it stays for StopPodSandbox and recovery to finish.
func (s *Service) abandonSandbox(id string, cause error) error {
	if !errors.Is(cause, revert.ErrIncomplete) {
		return errors.Join(cause, s.deps.Store.Sandboxes.Delete(id, "sandbox abandoned"))
	}
	_, err := s.updateSandbox(id, "sandbox broken", func(st vm.SandboxStatus) (vm.SandboxStatus, error) {
		st.Message = cause.Error()
		return st.To(vm.SandboxBroken)
	})
	return errors.Join(cause, err)
}

func (s *Service) sandboxByKey(key string) (vm.Sandbox, bool) {
	for _, sb := range s.deps.Store.Sandboxes.List() {
		if sb.Spec.Key() == key {
			return sb, true
		}
	}
	return vm.Sandbox{}, false
}

// networkRequest is what CNI is told. It is derived from the spec alone, which never
// changes, so that the DEL has the arguments of the ADD.
func networkRequest(sb vm.Sandbox) vm.NetworkRequest {
	return vm.NetworkRequest{
		SandboxID: sb.ID, Name: sb.Spec.Name, Namespace: sb.Spec.Namespace, UID: sb.Spec.UID,
		PortMappings: sb.Spec.PortMappings, DNS: sb.Spec.DNS, IPs: sb.Spec.IPs, Args: sb.Spec.CNIArgs,
	}
}

// updateSandbox changes the status of a sandbox, and tells clients what it means.
func (s *Service) updateSandbox(id, step string, change func(vm.SandboxStatus) (vm.SandboxStatus, error)) (vm.Sandbox, error) {
	var before vm.SandboxState
	sb, err := s.deps.Store.Sandboxes.Update(id, step, func(sb vm.Sandbox) (vm.Sandbox, error) {
		before = sb.Status.State
		next, err := change(sb.Status)
		if err != nil {
			return sb, err
		}
		sb.Status = next
		return sb, nil
	})
	if err == nil && sb.Status.State != before {
		s.tellOf(id, id, sandboxEvents[sb.Status.State]...)
	}
	if err == nil {
		s.tellVM(id)
		s.noteOperations(sb)
	}
	return sb, err
}
