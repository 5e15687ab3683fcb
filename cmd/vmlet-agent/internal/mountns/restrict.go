// SPDX-License-Identifier: Apache-2.0

package mountns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Restrictions are what a container's processes see less of than the guest's.
type Restrictions struct {
	// ReadonlyRoot makes the guest's file systems read-only, but for those of the kernel
	// and those in memory; the container's own mounts stay as they are.
	ReadonlyRoot bool
	// MaskedPaths look empty, ReadonlyPaths are read-only. Those that are not there are
	// left out.
	MaskedPaths, ReadonlyPaths []string
}

func (r Restrictions) none() bool {
	return !r.ReadonlyRoot && len(r.MaskedPaths) == 0 && len(r.ReadonlyPaths) == 0
}

// restrictOnce makes the restrictions in the calling thread's namespace, which is n. After a
// failure they may be there in part: no process is started then, and the next try begins anew.
func (n *namespace) restrictOnce(r Restrictions) error {
	n.restrict.Lock()
	defer n.restrict.Unlock()
	if n.restricted || r.none() {
		return nil
	}
	if r.ReadonlyRoot {
		if err := n.readonlyRoot(); err != nil {
			return err
		}
	}
	for _, path := range r.ReadonlyPaths {
		if err := readonly(path); err != nil && !missing(err) {
			return fmt.Errorf("make %s read-only: %w", path, err)
		}
	}
	for _, path := range r.MaskedPaths {
		if err := mask(path); err != nil && !missing(err) {
			return fmt.Errorf("mask %s: %w", path, err)
		}
	}
	n.restricted = true
	return nil
}

// missing: a path that is not there, nor can be.
func missing(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}

// readonlyRoot makes each of the guest's mounts read-only by itself: the flag of a bind mount
// is not that of the file system, which the guest goes on writing to.
func (n *namespace) readonlyRoot() error {
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return err
	}
	top := make(map[string]*mountinfo.Info, len(mounts))
	for _, m := range mounts {
		top[m.Mountpoint] = m
	}
	for path, m := range top {
		if !n.guests[m.ID] || path != "/" && writable[m.FSType] {
			continue
		}
		// EINVAL: another mount hides the place, so nobody writes to it.
		if err := remountReadonly(m); err != nil && !missing(err) && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("make %s read-only: %w", path, err)
		}
	}
	return nil
}

// readonly binds a path to itself, with all that is mounted below, and makes that read-only.
func readonly(path string) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	if err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(path))
	if err != nil {
		return err
	}
	if len(mounts) == 0 {
		return fmt.Errorf("its mount is not to be found")
	}
	return remountReadonly(mounts[len(mounts)-1])
}

func remountReadonly(m *mountinfo.Info) error {
	flags := uintptr(unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY)
	for option := range strings.SplitSeq(m.Options, ",") {
		flags |= kept[option]
	}
	return unix.Mount("", m.Mountpoint, "", flags, "")
}

// mask puts something empty over a path.
func mask(path string) error {
	err := unix.Mount("/dev/null", path, "", unix.MS_BIND, "")
	if errors.Is(err, unix.ENOTDIR) {
		return unix.Mount("tmpfs", path, "tmpfs", unix.MS_RDONLY, "")
	}
	return err
}

// kept are the options of a mount that remounting must repeat, or it clears them.
var kept = map[string]uintptr{
	"nosuid":      unix.MS_NOSUID,
	"nodev":       unix.MS_NODEV,
	"noexec":      unix.MS_NOEXEC,
	"noatime":     unix.MS_NOATIME,
	"nodiratime":  unix.MS_NODIRATIME,
	"relatime":    unix.MS_RELATIME,
	"nosymfollow": unix.MS_NOSYMFOLLOW,
}

// writable are the types of file systems that hold nothing of the guest's disks.
var writable = map[string]bool{
	"autofs": true, "binfmt_misc": true, "bpf": true, "cgroup": true, "cgroup2": true, "configfs": true, "debugfs": true,
	"devpts": true, "devtmpfs": true, "efivarfs": true, "fusectl": true, "hugetlbfs": true, "mqueue": true, "nsfs": true,
	"proc": true, "pstore": true, "ramfs": true, "rpc_pipefs": true, "securityfs": true, "selinuxfs": true, "sysfs": true,
	"tmpfs": true, "tracefs": true,
}
