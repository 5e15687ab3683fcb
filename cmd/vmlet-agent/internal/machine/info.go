// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// maxFilesystems bounds how many of them are told of.
const maxFilesystems = 64

// Info tells what the guest is like now. What it does not know it leaves out.
func (m *Machine) Info() *agentv1.Info {
	now, release := time.Now(), m.osRelease()
	info := &agentv1.Info{
		BootId:        m.read("proc/sys/kernel/random/boot_id"),
		Hostname:      m.read("proc/sys/kernel/hostname"),
		Kernel:        m.read("proc/sys/kernel/osrelease"),
		Os:            release["PRETTY_NAME"],
		OsId:          release["ID"],
		OsVersion:     release["VERSION_ID"],
		Machine:       hardware(),
		Logins:        m.logins(),
		Interfaces:    interfaces(),
		ClockUnixNano: now.UnixNano(),
		CpusOnline:    countList(m.read("sys/devices/system/cpu/online")),
		Filesystems:   m.filesystems(),
	}
	if up, _, _ := strings.Cut(m.read("proc/uptime"), " "); up != "" {
		if seconds, err := strconv.ParseFloat(up, 64); err == nil {
			info.UptimeNano = int64(seconds * float64(time.Second))
		}
	}
	info.MemoryTotalBytes, info.MemoryAvailableBytes = m.memory()
	return info
}

// osRelease is os-release(5).
func (m *Machine) osRelease() map[string]string {
	for _, file := range []string{"etc/os-release", "usr/lib/os-release"} {
		if b, err := os.ReadFile(m.path(file)); err == nil {
			return assignments(string(b))
		}
	}
	return nil
}

// hardware is the machine of uname(2).
func hardware() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Machine[:])
}

// memory returns MemTotal and MemAvailable of proc(5).
func (m *Machine) memory() (total, available uint64) {
	b, err := os.ReadFile(m.path("proc/meminfo"))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			continue
		}
		kib, err := strconv.ParseUint(fields[1], 10, 64)
		switch {
		case err != nil:
		case fields[0] == "MemTotal:":
			total = kib << 10
		case fields[0] == "MemAvailable:":
			available = kib << 10
		}
	}
	return total, available
}

// countList counts what a list such as "0-3,5" names.
func countList(list string) uint32 {
	var n uint32
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		a, err := strconv.ParseUint(first, 10, 16)
		if err != nil {
			continue
		}
		b := a
		if isRange {
			if b, err = strconv.ParseUint(last, 10, 16); err != nil || b < a {
				continue
			}
		}
		n += uint32(b-a) + 1
	}
	return n
}

// filesystems returns what holds the guest's data, each device once.
func (m *Machine) filesystems() []*agentv1.Filesystem {
	mounts, err := m.dataMounts()
	if err != nil {
		return nil
	}
	var all []*agentv1.Filesystem
	for _, mount := range mounts[:min(len(mounts), maxFilesystems)] {
		var s unix.Statfs_t
		if err := unix.Statfs(mount.Mountpoint, &s); err != nil {
			continue
		}
		unit := uint64(s.Bsize)
		all = append(all, &agentv1.Filesystem{
			Device: mount.Source, MountPoint: mount.Mountpoint, Type: mount.FSType,
			UsedBytes: (s.Blocks - s.Bfree) * unit, TotalBytes: s.Blocks * unit, UsedInodes: s.Files - s.Ffree,
		})
	}
	return all
}

// dataMounts returns the mounts of file systems on block devices, each of them once, in the
// order in which they were mounted. No other file system is looked at: a server that is away
// would not answer.
func (*Machine) dataMounts() ([]*mountinfo.Info, error) {
	seen := map[[2]int]bool{}
	return mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) {
		device := [2]int{i.Major, i.Minor}
		if !strings.HasPrefix(i.Source, "/dev/") || seen[device] {
			return true, false
		}
		seen[device] = true
		return false, false
	})
}
