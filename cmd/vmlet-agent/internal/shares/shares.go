// SPDX-License-Identifier: Apache-2.0

// Package shares mounts what the host shares with the guest by virtiofs where it belongs.
//
// The share as a whole is mounted in a mount namespace that nothing runs in: no process of
// the guest finds it in its mount table, or by its path. From there each folder or file is
// bound to its place, in the guest's own namespace or a container's.
//
// Read-only is the host's to enforce, and it does; the flag here is for programs that look
// at it.
package shares

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/mountns"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/mountpoint"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// holder names the namespace that the share is mounted in.
const holder = "vmlet-agent/share"

const (
	// plugTimeout is how long a device that was just plugged may take to come up; the
	// kernel knows its tag once it has probed it, and tells nobody.
	plugTimeout = 10 * time.Second
	plugPoll    = 50 * time.Millisecond
	// answerTimeout is how long the host may take to answer for a share that is taken for
	// alive.
	answerTimeout = 2 * time.Second
)

// Shares are the guest's mounts of its share. It is safe for concurrent use.
type Shares struct {
	namespaces *mountns.Set
	root       string
	mountTag   func(tag, at string) error
	answers    func(path string) error

	mu    sync.Mutex
	bound []place
}

// place is where something of the share was bound.
type place struct{ namespace, path string }

// New returns shares that are mounted as a whole at root, say /run/vmlet/share.
func New(namespaces *mountns.Set, root string) *Shares {
	return &Shares{namespaces: namespaces, root: root, mountTag: mountVirtiofs, answers: answers}
}

func mountVirtiofs(tag, at string) error {
	return unix.Mount(tag, at, "virtiofs", unix.MS_NOSUID|unix.MS_NODEV, "")
}

// Mount mounts the share and binds what is asked for. Idempotent: a mount that is there is
// left alone, one of a device that was unplugged is replaced. After an error, what was
// bound before it stays, and the next call goes on.
func (s *Shares) Mount(ctx context.Context, req *agentv1.MountSharesRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range req.GetMounts() {
		if !filepath.IsLocal(m.GetSource()) || !filepath.IsAbs(m.GetPath()) {
			return fmt.Errorf("mount of %q at %q: not a place in the share, or no absolute path: %w",
				m.GetSource(), m.GetPath(), errdefs.ErrInvalidArgument)
		}
	}
	device, err := s.mountShare(ctx, req.GetTag(), req.GetNamespace())
	if err != nil {
		return err
	}
	for _, m := range req.GetMounts() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.bind(req.GetNamespace(), m, device); err != nil {
			return fmt.Errorf("mount at %s: %w", m.GetPath(), err)
		}
	}
	return nil
}

// mountShare mounts the share as a whole and returns its device, by which its mounts are
// known. Where the device was unplugged, its mounts are taken away first, all of them: what
// is below a dead one cannot even be looked at.
func (s *Shares) mountShare(ctx context.Context, tag, namespace string) (device uint64, err error) {
	device, dead, err := s.mounted()
	if err != nil || device != 0 && !dead {
		return device, err
	}
	if dead {
		if err := s.unmountAll(device, namespace); err != nil {
			return 0, fmt.Errorf("let go of a share that was unplugged: %w", err)
		}
	}
	err = s.namespaces.Do(holder, func() error {
		if err := os.MkdirAll(s.root, 0o700); err != nil {
			return fmt.Errorf("make a mount point for the share: %w", err)
		}
		if err := s.awaitTag(ctx, tag); err != nil {
			return err
		}
		top, err := mountpoint.Top(s.root)
		if err != nil || top == nil {
			return errors.Join(err, fmt.Errorf("the mounted share is not to be found"))
		}
		device = mountpoint.Device(top)
		return nil
	})
	return device, err
}

// awaitTag mounts the share, waiting for a device that was just plugged.
func (s *Shares) awaitTag(ctx context.Context, tag string) error {
	ctx, cancel := context.WithTimeout(ctx, plugTimeout)
	defer cancel()
	for {
		err := s.mountTag(tag, s.root)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.ENODEV):
			return fmt.Errorf("the guest's kernel has no virtiofs: %w", errdefs.ErrNotImplemented)
		case !errors.Is(err, unix.EINVAL): // as the kernel says for a tag it does not know
			return fmt.Errorf("mount the share: %w", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the guest has no share %q: %w: %w", tag, err, errdefs.ErrUnavailable)
		case <-time.After(plugPoll):
		}
	}
}

// bind binds one thing of the share to its place.
func (s *Shares) bind(namespace string, m *agentv1.ShareMount, device uint64) error {
	tree := -1
	err := s.namespaces.Do(holder, func() (err error) {
		tree, err = unix.OpenTree(unix.AT_FDCWD, filepath.Join(s.root, m.GetSource()),
			unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
		return err
	})
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("the share has no %s: %w", m.GetSource(), errdefs.ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("open it in the share: %w", err)
	}
	defer unix.Close(tree) //nolint:errcheck // a descriptor of a path
	return s.namespaces.Do(namespace, func() error {
		at, err := attach(tree, m, device)
		if err == nil {
			s.remember(place{namespace, at})
		}
		return err
	})
}

func (s *Shares) remember(p place) {
	if !slices.Contains(s.bound, p) {
		s.bound = append(s.bound, p)
	}
}

// answers asks the host for something about the share. What was unplugged is ENOTCONN; a
// virtiofsd that died unseen answers nothing, and whoever asks waits with it: a thread other
// than the caller's, which has the namespace, and so it is asked by a descriptor.
func answers(path string) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	answer := make(chan error, 1)
	go func() {
		var st unix.Statfs_t
		err := unix.Fstatfs(fd, &st)
		answer <- errors.Join(err, unix.Close(fd))
	}()
	select {
	case err := <-answer:
		return err
	case <-time.After(answerTimeout):
		return fmt.Errorf("the host does not answer for the share: %w", errdefs.ErrFailedPrecondition)
	}
}

func isUnplugged(err error) bool { return errors.Is(err, unix.ENOTCONN) }
