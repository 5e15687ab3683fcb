// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Space below which the root folder is a finding: images are gigabytes, and a guest
// whose disk cannot grow is paused.
const (
	spaceFail = 256 * vm.MiB
	spaceWarn = 5 * vm.GiB
)

// existing is the path, or the nearest folder above it that exists.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == "/" || path == "." {
			return path
		}
		path = filepath.Dir(path)
	}
}

func (d *Doctor) diskSpace(context.Context) vm.Check {
	root := existing(d.path(d.Config.Root))
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return fail(fmt.Sprintf("%s: %v", root, err), "set root to a folder on a local disk")
	}
	free := int64(st.Bavail) * st.Bsize
	summary := fmt.Sprintf("%d MiB free at %s", free/vm.MiB, root)
	const mend = "free space, or move root to a larger disk"
	switch {
	case free < spaceFail:
		return fail(summary, mend)
	case free < spaceWarn:
		return warn(summary, mend)
	}
	return ok("%s", summary)
}

// folders looks whether QEMU's user can reach the disks: every folder above them must
// let it pass.
func (d *Doctor) folders(context.Context) vm.Check {
	qemu, err := d.qemuAccount()
	if err != nil {
		return warn(err.Error(), "see qemu-user")
	}
	for dir := existing(d.path(d.Config.Root)); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return fail(err.Error(), "set root to a folder that exists or can be made")
		}
		if !qemu.may(0o1, info) {
			return fail(fmt.Sprintf("QEMU's user %s cannot pass %s (mode %04o)", d.Config.QEMU.User, dir, info.Mode().Perm()),
				fmt.Sprintf("chmod o+x %s, or set root to another folder", dir))
		}
		if dir == filepath.Dir(dir) || dir == filepath.Clean(d.Root) {
			return ok("QEMU's user can reach %s", d.Config.Root)
		}
	}
}

// stateFolder looks whether a reboot clears the state folder: a network namespace that
// seems to be there after a reboot would be taken for a living one.
func (d *Doctor) stateFolder(context.Context) vm.Check {
	dir := existing(d.path(d.Config.State))
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fail(fmt.Sprintf("%s: %v", dir, err), "set state to a folder on a tmpfs, such as /run/vmlet")
	}
	if st.Type != unix.TMPFS_MAGIC && st.Type != unix.RAMFS_MAGIC {
		return warn(fmt.Sprintf("%s is not on a tmpfs: it survives a reboot, what it stands for does not", dir), "set state to a folder on a tmpfs, such as /run/vmlet")
	}
	return ok("%s is on a tmpfs", d.Config.State)
}

// isGone reports whether a process or file has vanished while we looked at it.
func isGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}
