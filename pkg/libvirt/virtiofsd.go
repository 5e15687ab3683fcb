// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// HelperPIDs implements lifecycle.Hypervisor. A virtiofsd of QEMU 7.2 is two processes: one
// that serves, in namespaces of its own, and its parent, which waits. The parent comes
// first. As with QEMU, libvirt does not tell: they are found by their arguments.
func (h *Hypervisor) HelperPIDs(ctx context.Context, id string) ([]int, error) {
	if err := h.with(ctx, "find helper processes", id, requireActive); err != nil {
		return nil, err
	}
	pids, err := findVirtiofsd(h.cfg.ProcRoot, id)
	if err != nil {
		return nil, fmt.Errorf("find helper processes of sandbox %s: %w", id, err)
	}
	return pids, nil
}

// findVirtiofsd lists the processes that serve a sandbox's share, parents before children.
func findVirtiofsd(root, id string) ([]int, error) {
	pids, err := listPIDs(root)
	if err != nil {
		return nil, err
	}
	slices.Sort(pids)
	parents := map[int]int{}
	var found []int
	for _, pid := range pids {
		parent, ok, err := isVirtiofsdOf(root, pid, id)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, pid)
			parents[pid] = parent
		}
	}
	isChild := func(pid int) int {
		if slices.Contains(found, parents[pid]) {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(found, func(a, b int) int { return isChild(a) - isChild(b) })
	return found, nil
}

// isVirtiofsdOf tells whether a process is a virtiofsd whose source is the sandbox's share,
// a folder that has the sandbox's ID for its name, and who its parent is.
func isVirtiofsdOf(root string, pid int, id string) (parent int, ok bool, err error) {
	dir := filepath.Join(root, strconv.Itoa(pid))
	raw, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if gone(err) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	args := strings.Split(string(bytes.TrimRight(raw, "\x00")), "\x00")
	if !hasOption(args, "-o", func(v string) bool { return filepath.Base(shareSource(v)) == id }) {
		return 0, false, nil
	}
	exe, err := os.Readlink(filepath.Join(dir, "exe"))
	if err == nil && strings.HasPrefix(filepath.Base(exe), "virtiofsd") {
		parent, err = parentOf(dir)
		ok = err == nil
	}
	if gone(err) {
		return 0, false, nil // it is just going
	}
	return parent, ok, err
}

// shareSource reads the source from virtiofsd's options: "source=/path,cache=auto".
func shareSource(options string) string {
	for option := range strings.SplitSeq(options, ",") {
		if path, ok := strings.CutPrefix(option, "source="); ok {
			return path
		}
	}
	return ""
}

// parentOf reads a process's parent from its stat, where it follows the name, which may
// have anything in it but ends with the last parenthesis, and the state (proc(5)).
func parentOf(dir string) (int, error) {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 2 {
		return 0, fmt.Errorf("%s/stat is %q", dir, stat)
	}
	return strconv.Atoi(fields[1])
}
