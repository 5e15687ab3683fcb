// SPDX-License-Identifier: Apache-2.0

package shares

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxHolders is how many processes are named.
const maxHolders = 10

// holders names the processes that have something of a device open, mapped, or for their
// working directory. A process that ends meanwhile holds nothing.
func holders(proc string, device uint64) []string {
	dirs, err := filepath.Glob(filepath.Join(proc, "[1-9]*"))
	if err != nil {
		return nil
	}
	var held []string
	for _, dir := range dirs {
		if path := heldBy(dir, device); path != "" {
			held = append(held, path+" by "+process(dir))
		}
		if len(held) == maxHolders {
			return append(held, "and maybe more")
		}
	}
	return held
}

// copies names processes that see a mount of the file system in their mount namespace, one for each mount.
func copies(proc string, device uint64) []string {
	files, err := filepath.Glob(filepath.Join(proc, "[1-9]*", "mountinfo"))
	if err != nil {
		return nil
	}
	var held []string
	seen := map[string]bool{}
	number := fmt.Sprintf("%d:%d", unix.Major(device), unix.Minor(device))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		for line := range strings.Lines(string(text)) {
			// mount ID, parent ID, device, root, mount point (proc_pid_mountinfo(5))
			fields := strings.Fields(line)
			if len(fields) < 5 || fields[2] != number || seen[fields[0]] {
				continue
			}
			seen[fields[0]] = true
			held = append(held, fields[4]+", mounted for "+process(filepath.Dir(file)))
			if len(held) == maxHolders {
				return append(held, "and maybe more")
			}
		}
	}
	return held
}

// process names a process, by its folder in /proc, for people.
func process(dir string) string {
	comm, _ := os.ReadFile(filepath.Join(dir, "comm")) //nolint:errcheck // it may have ended
	return fmt.Sprintf("process %s (%s)", filepath.Base(dir), strings.TrimSpace(string(comm)))
}

// heldBy returns one path that a process holds on the device, "" for none.
func heldBy(dir string, device uint64) string {
	links, err := filepath.Glob(filepath.Join(dir, "fd", "*"))
	if err != nil {
		return ""
	}
	for _, name := range []string{"cwd", "root", "exe"} {
		links = append(links, filepath.Join(dir, name))
	}
	for _, link := range links {
		if onDevice(link, device) {
			path, err := os.Readlink(link)
			if err != nil {
				return ""
			}
			return path
		}
	}
	return mappedBy(dir, device)
}

// onDevice asks the kernel without it asking the host, which may never answer.
func onDevice(link string, device uint64) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, link, unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, 0, &st)
	return err == nil && unix.Mkdev(st.Dev_major, st.Dev_minor) == device
}

// mappedBy looks through a process's mappings: "start-end perms offset major:minor inode path".
func mappedBy(dir string, device uint64) string {
	f, err := os.Open(filepath.Join(dir, "maps"))
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // it was only read
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 {
			continue
		}
		major, minor, _ := strings.Cut(fields[3], ":")
		ma, maErr := strconv.ParseUint(major, 16, 32)
		mi, miErr := strconv.ParseUint(minor, 16, 32)
		if maErr == nil && miErr == nil && unix.Mkdev(uint32(ma), uint32(mi)) == device {
			return fields[5]
		}
	}
	return ""
}
