// SPDX-License-Identifier: Apache-2.0

package share

import (
	"errors"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/vm"
)

// kinds are the files that are not shared, as people call them. A guest would get the
// other end of nothing, or a device of the host.
var kinds = map[uint32]string{
	unix.S_IFBLK: "a block device", unix.S_IFCHR: "a character device",
	unix.S_IFSOCK: "a socket", unix.S_IFIFO: "a named pipe",
}

// attach binds the mount's host path at target. The path is resolved once, to a descriptor
// that everything after goes by: a link that changes meanwhile changes nothing. All flags
// are set on the copy before it is anywhere: there is no moment in which it is writable,
// or hears of other mounts, and must not.
func attach(m vm.ShareMount, target string) (err error) {
	source, folder, err := open(m.HostPath)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(source)) }()
	tree, err := unix.OpenTree(source, "",
		unix.AT_EMPTY_PATH|unix.AT_RECURSIVE|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("copy the mount: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Close(tree)) }()
	if err := setFlags(tree, m); err != nil {
		return fmt.Errorf("set the mount's flags: %w", err)
	}
	if err := makeMountPoint(target, folder); err != nil {
		return err
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("put the mount into the tree: %w", err)
	}
	return nil
}

// setFlags makes a copy of mounts what m says, before it is anywhere.
func setFlags(tree int, m vm.ShareMount) error {
	all := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID, Propagation: unix.MS_PRIVATE}
	if m.HostToGuest {
		all.Propagation = unix.MS_SLAVE
	}
	if m.ReadOnly && m.RecursiveReadOnly {
		all.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &all); err != nil {
		return err
	}
	if !m.ReadOnly || m.RecursiveReadOnly {
		return nil
	}
	return unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}

// open resolves a host path, links and all, and tells whether it is a folder.
func open(path string) (fd int, folder bool, err error) {
	fd, err = unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS,
	})
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR):
		return -1, false, fmt.Errorf("host path %s does not exist: %w", path, errdefs.ErrFailedPrecondition)
	case errors.Is(err, unix.ELOOP):
		return -1, false, fmt.Errorf("host path %s leads through too many links, or one of /proc: %w",
			path, errdefs.ErrFailedPrecondition)
	case err != nil:
		return -1, false, fmt.Errorf("open host path %s: %w", path, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return -1, false, errors.Join(fmt.Errorf("look at host path %s: %w", path, err), unix.Close(fd))
	}
	switch kind := st.Mode & unix.S_IFMT; kind {
	case unix.S_IFDIR:
		return fd, true, nil
	case unix.S_IFREG:
		return fd, false, nil
	default:
		return -1, false, errors.Join(fmt.Errorf("host path %s is %s; folders and regular files can be shared: %w",
			path, kinds[kind], errdefs.ErrFailedPrecondition), unix.Close(fd))
	}
}

func makeMountPoint(target string, folder bool) error {
	if folder {
		if err := os.Mkdir(target, 0o700); err != nil {
			return fmt.Errorf("make a mount point: %w", err)
		}
		return nil
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make a mount point: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("make a mount point: %w", err)
	}
	return nil
}
