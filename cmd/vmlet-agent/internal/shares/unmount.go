// SPDX-License-Identifier: Apache-2.0

package shares

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/mountpoint"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// Unmount undoes Mount. FailedPrecondition, with who holds what, while a process has
// something of the share open: then all of it stays as it was, but for a process that came to
// hold it just now, and one that sees it in a mount namespace of its own: then Mount has to
// mount it again. Where the device was
// unplugged there is nothing left to hold, and everything is let go of. Idempotent.
func (s *Shares) Unmount(req *agentv1.UnmountSharesRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	device, dead, err := s.mounted()
	if err != nil || device == 0 {
		return err
	}
	if !dead {
		if held := holders("/proc", device); len(held) > 0 {
			return fmt.Errorf("the share is in use: %s: %w", strings.Join(held, ", "), errdefs.ErrFailedPrecondition)
		}
	}
	if err := s.unmountAll(device, ""); err != nil {
		return fmt.Errorf("unmount share %q: %w", req.GetTag(), err)
	}
	// Who came between the look and the unmounting, and who has a copy of the mount in a namespace of its own.
	if held := append(holders("/proc", device), copies("/proc", device)...); !dead && len(held) > 0 {
		return fmt.Errorf("the share is in use: %s: %w", strings.Join(held, ", "), errdefs.ErrFailedPrecondition)
	}
	s.bound = nil
	return nil
}

// mounted tells the device of the share, 0 for none, and whether it was unplugged.
func (s *Shares) mounted() (device uint64, dead bool, err error) {
	err = s.namespaces.Do(holder, func() error {
		top, err := mountpoint.Top(s.root)
		if err != nil || top == nil {
			return err
		}
		device = mountpoint.Device(top)
		err = s.answers(s.root)
		if dead = isUnplugged(err); dead {
			err = nil
		}
		return err
	})
	return device, dead, err
}

// unmountAll takes all mounts of a device away, in the guest's own namespace, in this one, in
// those of containers that are known and in the one that holds it whole. They are detached: a process that has
// come to hold one since it was looked for keeps its file, and the device stays until then.
func (s *Shares) unmountAll(device uint64, namespace string) error {
	namespaces := map[string]bool{"": true, holder: true, namespace: true}
	for _, b := range s.bound {
		namespaces[b.namespace] = true
	}
	var errs []error
	for name := range namespaces {
		errs = append(errs, s.namespaces.Do(name, func() error { return detach(device) }))
	}
	return errors.Join(errs...)
}

// detach takes a device's mounts out of the calling thread's namespace, the last first.
func detach(device uint64) error {
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) { return mountpoint.Device(m) != device, false })
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	var errs []error
	for i := range mounts {
		at := mounts[len(mounts)-1-i].Mountpoint
		// EINVAL: it went with another one.
		if err := mountpoint.Detach(at); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", at, err))
		}
	}
	return errors.Join(errs...)
}
