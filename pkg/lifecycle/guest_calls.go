// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/vm"
)

// GuestInfo asks a guest's agent about its guest. ref is as in vmOf. This and the calls below wait for an agent while the
// guest boots: Unavailable if none answers in the time that one is given. FailedPrecondition, at once, for a VM that is
// paused or was asked to stop.
func (s *Service) GuestInfo(ctx context.Context, ref string) (info vm.GuestInfo, err error) {
	err = s.inGuest(ctx, "guest_info", ref, func(ctx context.Context, id string) error {
		info, err = s.deps.Guest.Info(ctx, id)
		return err
	})
	return info, err
}

// ReadGuestFile reads a part of a file of a guest. begin is told of the file before any of its content, which goes to the
// writer that it returns.
func (s *Service) ReadGuestFile(ctx context.Context, ref string, req vm.ReadGuestFile, begin func(vm.GuestFile) (io.Writer, error)) error {
	return s.inGuest(ctx, "guest_file_read", ref, func(ctx context.Context, id string) error {
		return s.deps.Guest.ReadFile(ctx, id, req, begin)
	})
}

// WriteGuestFile writes a file in a guest with what content brings until io.EOF, whole or not at all.
func (s *Service) WriteGuestFile(ctx context.Context, ref string, f vm.WriteGuestFile, content io.Reader) error {
	return s.inGuest(ctx, "guest_file_write", ref, func(ctx context.Context, id string) error {
		return s.deps.Guest.WriteFile(ctx, id, f, content)
	})
}

// AuthorizedKeys lists the SSH keys of a user of a guest.
func (s *Service) AuthorizedKeys(ctx context.Context, ref, user string) (keys []string, err error) {
	err = s.inGuest(ctx, "guest_keys_read", ref, func(ctx context.Context, id string) error {
		keys, err = s.deps.Guest.Keys(ctx, id, user)
		return err
	})
	return keys, err
}

// SetAuthorizedKeys changes the SSH keys of a user of a guest.
func (s *Service) SetAuthorizedKeys(ctx context.Context, ref string, c vm.KeysChange) error {
	return s.inGuest(ctx, "guest_keys_write", ref, func(ctx context.Context, id string) error {
		return s.deps.Guest.SetKeys(ctx, id, c)
	})
}

// SetGuestPassword gives a user of a guest another password.
func (s *Service) SetGuestPassword(ctx context.Context, ref string, p vm.GuestPassword) error {
	return s.inGuest(ctx, "guest_password", ref, func(ctx context.Context, id string) error {
		return s.deps.Guest.SetPassword(ctx, id, p)
	})
}

// inGuest does something by the agent of a guest, which nothing is locked for: it may take as long as the caller likes.
func (s *Service) inGuest(ctx context.Context, what, ref string, do func(ctx context.Context, id string) error) error {
	c, err := s.vmOf(ref)
	if err != nil {
		return fmt.Errorf("ask the guest: %w", err)
	}
	if err := canAnswer(c); err != nil {
		return fmt.Errorf("ask the guest of sandbox %s: %w", c.SandboxID, err)
	}
	return s.observed(what, func() error {
		if err := s.awaitAgent(ctx, c); err != nil {
			return fmt.Errorf("ask the guest of sandbox %s: %w", c.SandboxID, err)
		}
		return do(ctx, c.SandboxID)
	})
}

// canAnswer refuses a VM whose guest would not answer, or not to the end.
func canAnswer(c vm.Container) error {
	if c.Status.Paused {
		return fmt.Errorf("it is paused, resume it first: %w", errdefs.ErrFailedPrecondition)
	}
	return leaving(c)
}

// awaitAgent returns once an agent answers. It waits for as long as the container's command would for one.
func (s *Service) awaitAgent(ctx context.Context, c vm.Container) error {
	sb, err := s.deps.Store.Sandboxes.Get(c.SandboxID)
	if err != nil {
		return err
	}
	ask, err := annotations.Parse(sb.Spec.AllSettings())
	if err != nil {
		return err
	}
	timeout := s.agentTimeout(ask)
	waiting, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err = s.deps.Guest.AwaitAny(waiting, c.SandboxID)
	if err != nil && ctx.Err() == nil && errors.Is(waiting.Err(), context.DeadlineExceeded) {
		return noAgent(timeout)
	}
	return err
}
