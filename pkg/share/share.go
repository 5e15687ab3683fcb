// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/keylock"
	"github.com/vmlet/vmlet/pkg/paths"
	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

// Shares implements lifecycle.Shares, where each method is described. It is safe for
// concurrent use. It needs root, and Linux 5.12 (mount_setattr).
type Shares struct {
	paths paths.Node
	locks keylock.Locks
}

// New returns the shares of a node. Nothing is made before the first Create.
func New(p paths.Node) *Shares { return &Shares{paths: p} }

// Create implements lifecycle.Shares. A tree that is there with the same mounts is left as
// it is, a guest may use it; one that is half made, or has other mounts, is made anew.
// FailedPrecondition, with both paths, for a host path that is missing or is neither a
// folder nor a regular file.
func (s *Shares) Create(ctx context.Context, id string, mounts []vm.ShareMount) (_ []vm.ShareMount, err error) {
	unlock, err := s.lock(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("create share of sandbox %s: %w", id, err)
	}
	defer unlock()
	placed := place(mounts)
	if err := s.create(ctx, id, placed); err != nil {
		return nil, fmt.Errorf("create share of sandbox %s: %w", id, err)
	}
	return placed, nil
}

func (s *Shares) create(ctx context.Context, id string, mounts []vm.ShareMount) (err error) {
	if err := s.prepare(); err != nil {
		return err
	}
	dir, err := s.tree(id)
	if err != nil {
		return err
	}
	whole, err := isWhole(dir, mounts)
	if err != nil || whole {
		return err
	}
	if err := removeTree(dir); err != nil {
		return err
	}
	rev := revert.New(ctx)
	defer rev.Fail(&err) //nolint:contextcheck // it has ctx since New
	rev.Add("share", func(context.Context) error { return removeTree(dir) })
	if err := makeTree(dir, len(mounts)); err != nil {
		return err
	}
	for _, m := range mounts {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := attach(m, filepath.Join(dir, m.Source)); err != nil {
			return fmt.Errorf("mount %s for %s: %w", m.HostPath, m.GuestPath, err)
		}
	}
	if err := seal(dir); err != nil {
		return err
	}
	rev.Success()
	return nil
}

// Remove implements lifecycle.Shares. Call it when the machine has ended: a guest that
// still runs loses its mounts.
func (s *Shares) Remove(ctx context.Context, id string) error {
	unlock, err := s.lock(ctx, id)
	if err != nil {
		return fmt.Errorf("remove share of sandbox %s: %w", id, err)
	}
	defer unlock()
	dir, err := s.tree(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = removeTree(dir)
	}
	if err != nil {
		return fmt.Errorf("remove share of sandbox %s: %w", id, err)
	}
	return nil
}

// List implements lifecycle.Shares. Half-made trees are listed too.
func (s *Shares) List(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list shares: %w", err)
	}
	entries, err := os.ReadDir(s.paths.Shares())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list shares: %w", err)
	}
	ids := []string{}
	for _, e := range entries {
		if e.IsDir() {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

func (s *Shares) lock(ctx context.Context, id string) (unlock func(), err error) {
	if id == "" || id == "." || id == ".." || strings.Contains(id, "/") {
		return nil, fmt.Errorf("%q is not the ID of a sandbox: %w", id, errdefs.ErrInvalidArgument)
	}
	return s.locks.Lock(ctx, id)
}

// tree is the folder of a sandbox's tree as the kernel names it: a link that leads to
// <state> would never be found in a list of mounts.
func (s *Shares) tree(id string) (string, error) {
	shares, err := filepath.EvalSymlinks(s.paths.Shares())
	if err != nil {
		return "", fmt.Errorf("find the folder of shares: %w", err)
	}
	return filepath.Join(shares, id), nil
}

// prepare makes the folder that all trees are in a shared mount, so that trees appear in,
// and above all disappear from, all mount namespaces that were made meanwhile.
func (s *Shares) prepare() error {
	dir := s.paths.Shares()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of shares: %w", err)
	}
	mounted, err := isMountPoint(dir)
	if err != nil {
		return err
	}
	if !mounted {
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount the folder of shares on itself: %w", err)
		}
	}
	if err := unix.Mount("", dir, "", unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("make the folder of shares a shared mount: %w", err)
	}
	return nil
}

// place returns the mounts with their places in the share. A place is named after all that
// the mount is, so that a tree tells what it was made of.
func place(mounts []vm.ShareMount) []vm.ShareMount {
	placed := make([]vm.ShareMount, len(mounts))
	for i, m := range mounts {
		sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %t %t %t",
			m.HostPath, m.GuestPath, m.ReadOnly, m.RecursiveReadOnly, m.HostToGuest))
		m.Source = fmt.Sprintf("%d-%x", i, sum[:6])
		placed[i] = m
	}
	return placed
}
