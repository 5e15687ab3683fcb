// SPDX-License-Identifier: Apache-2.0

// Package mountpoint makes the places that things are mounted at in the guest, and tells
// what is mounted there.
package mountpoint

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Make makes sure that there is a folder, or a file, to mount on, and returns its path
// without links. Links are followed: they are the guest's own, as any program follows them.
func Make(path string, folder bool) (string, error) {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if err := makeMissing(path, folder); err != nil {
			return "", fmt.Errorf("make the mount point: %w", err)
		}
	}
	at, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("find the mount point: %w", err)
	}
	info, err := os.Stat(at)
	if err != nil {
		return "", fmt.Errorf("look at the mount point: %w", err)
	}
	if info.IsDir() != folder {
		return "", fmt.Errorf("one of the host's and the guest's is a folder, the other is none: %w", errdefs.ErrFailedPrecondition)
	}
	return at, nil
}

func makeMissing(path string, folder bool) error {
	if folder {
		return os.MkdirAll(path, 0o755) //nolint:gosec // as runtimes make them
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // as above
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644) //nolint:gosec // as above
	if err != nil {
		return err
	}
	return f.Close()
}

// Top is the mount that hides all others at a path, nil for none. The path has no links.
func Top(path string) (*mountinfo.Info, error) {
	// Not mountinfo's own filter: it stops at the first, and those mounted over it come later.
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) { return m.Mountpoint != path, false })
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	if len(mounts) == 0 {
		return nil, nil //nolint:nilnil // nothing is mounted, and nothing went wrong
	}
	return mounts[len(mounts)-1], nil
}

// Device is the number of the file system that is mounted.
func Device(m *mountinfo.Info) uint64 { return unix.Mkdev(uint32(m.Major), uint32(m.Minor)) }

// Attach puts a copy of a mount (open_tree(2)) at a path of the calling thread's namespace.
func Attach(tree int, at string, readonly bool) error {
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return err
	}
	if !readonly {
		return nil
	}
	if err := unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return errors.Join(fmt.Errorf("make it read-only: %w", err), unix.Unmount(at, unix.MNT_DETACH))
	}
	return nil
}

// Detach takes away what is mounted at a path without links, also while it is in use.
func Detach(at string) error { return unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) }
