// SPDX-License-Identifier: Apache-2.0

package share

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/vm"
)

// maxStacked bounds how many mounts are taken from one mount point: a tree has one, and two
// only where somebody else meddled.
const maxStacked = 8

// makeTree mounts an empty tmpfs for n mount points at dir.
func makeTree(dir string, n int) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("make the tree's folder: %w", err)
	}
	options := fmt.Sprintf("mode=0755,size=64k,nr_inodes=%d", n+8)
	if err := unix.Mount("vmlet-share", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options); err != nil {
		return fmt.Errorf("mount the tree's tmpfs: %w", err)
	}
	return nil
}

// seal makes the file system, not only this mount of it, read-only: a mount's own flags do
// not reach its copies in other mount namespaces.
func seal(dir string) error {
	if err := unix.Mount("vmlet-share", dir, "tmpfs",
		unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("make the tree's tmpfs read-only: %w", err)
	}
	return nil
}

// isWhole tells whether a sealed tree of exactly these mounts is at dir.
func isWhole(dir string, mounts []vm.ShareMount) (bool, error) {
	found, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return false, fmt.Errorf("list mounts: %w", err)
	}
	var sealed bool
	var have, want []string
	for _, m := range found {
		switch {
		case m.Mountpoint == dir:
			sealed = m.FSType == "tmpfs" && slices.Contains(strings.Split(m.VFSOptions, ","), "ro")
		case filepath.Dir(m.Mountpoint) == dir:
			have = append(have, filepath.Base(m.Mountpoint))
		}
	}
	for _, m := range mounts {
		want = append(want, m.Source)
	}
	slices.Sort(have)
	slices.Sort(want)
	return sealed && slices.Equal(have, want), nil
}

// removeTree unmounts a tree with all that is mounted in it and removes its folder, which
// must be empty then. Idempotent. The unmount is lazy: virtiofsd may be just ending, and
// whoever still has a file open keeps that file only.
func removeTree(dir string) error {
	for range maxStacked {
		mounted, err := isMountPoint(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if !mounted {
			return removeFolder(dir)
		}
		if err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount the tree: %w", err)
		}
	}
	return fmt.Errorf("more than %d mounts on each other at %s: %w", maxStacked, dir, errdefs.ErrFailedPrecondition)
}

func removeFolder(dir string) error {
	err := unix.Rmdir(dir)
	switch {
	case err == nil || errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.ENOTEMPTY):
		return fmt.Errorf("%s holds files that are not ours, so it is left alone: %w", dir, errdefs.ErrFailedPrecondition)
	default:
		return fmt.Errorf("remove the tree's folder: %w", err)
	}
}

// isMountPoint asks the kernel, by a flag of statx(2) that tells a mount's root from a
// folder also where both are of one file system.
func isMountPoint(dir string) (bool, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW, 0, &st); err != nil {
		return false, &fs.PathError{Op: "statx", Path: dir, Err: err}
	}
	if st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return false, fmt.Errorf("this kernel does not tell mount points: %w", errdefs.ErrNotImplemented)
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}
