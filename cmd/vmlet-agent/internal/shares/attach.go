// SPDX-License-Identifier: Apache-2.0

package shares

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// attach puts a copy of a mount at its path in the calling thread's namespace, and returns
// that path without links. A mount point that is missing is made.
func attach(tree int, m *agentv1.ShareMount, device uint64) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(tree, &st); err != nil {
		return "", fmt.Errorf("look at it: %w", err)
	}
	at, err := makeMountPoint(m.GetPath(), st.Mode&unix.S_IFMT == unix.S_IFDIR)
	if err != nil {
		return "", err
	}
	there, err := alreadyThere(at, m, device)
	if err != nil || there {
		return at, err
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return "", err
	}
	if !m.GetReadonly() {
		return at, nil
	}
	if err := unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return "", errors.Join(fmt.Errorf("make it read-only: %w", err), unix.Unmount(at, unix.MNT_DETACH))
	}
	return at, nil
}

// alreadyThere tells whether the mount is at its place. One of a share that was unplugged is
// taken away.
func alreadyThere(at string, m *agentv1.ShareMount, device uint64) (bool, error) {
	top, err := topMount(at)
	if err != nil || top == nil {
		return false, err
	}
	if deviceOf(top) == device {
		return top.Root == filepath.Join("/", m.GetSource()), nil
	}
	if top.FSType == "virtiofs" {
		if err := unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return false, fmt.Errorf("let go of a share that was unplugged: %w", err)
		}
	}
	return false, nil
}

// makeMountPoint makes sure that there is a folder, or a file, to mount on. Links are
// followed: the guest's own, as any program there follows them.
func makeMountPoint(path string, folder bool) (string, error) {
	makeIt := makeFile
	if folder {
		makeIt = func(path string) error { return makeFolder(path, 0o755) }
	}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if err := makeFolder(filepath.Dir(path), 0o755); err != nil {
			return "", err
		}
		if err := makeIt(path); err != nil {
			return "", err
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

func makeFolder(path string, mode os.FileMode) error {
	if err := os.MkdirAll(path, mode); err != nil {
		return fmt.Errorf("make the mount point: %w", err)
	}
	return nil
}

func makeFile(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644) //nolint:gosec // as runtimes make them; it is mounted over
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return fmt.Errorf("make the mount point: %w", err)
	}
	return nil
}

// topMount is the mount that hides all others at a path of the calling thread's namespace,
// nil for none.
func topMount(path string) (*mountinfo.Info, error) {
	// Not mountinfo's own filter: it stops at the first, and those mounted over it come later.
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) { return m.Mountpoint != path, false })
	if err != nil || len(mounts) == 0 {
		return nil, err
	}
	return mounts[len(mounts)-1], nil
}

func deviceOf(m *mountinfo.Info) uint64 { return unix.Mkdev(uint32(m.Major), uint32(m.Minor)) }
