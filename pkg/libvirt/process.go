// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// findQEMU finds the QEMU process of a sandbox by its arguments, in the procfs at root.
// libvirt has no call for it, and its pid file is in a folder that we do not see where
// libvirtd has a mount namespace of its own. FailedPrecondition if there is none, or more
// than one: a process can write its own arguments, and must not pass for another's QEMU.
func findQEMU(root, id string) (int, error) {
	pids, err := listPIDs(root)
	if err != nil {
		return 0, fmt.Errorf("find QEMU of sandbox %s: %w", id, err)
	}
	var found []int
	for _, pid := range pids {
		ok, err := isQEMUOf(root, pid, id)
		if err != nil {
			return 0, fmt.Errorf("find QEMU of sandbox %s: %w", id, err)
		}
		if ok {
			found = append(found, pid)
		}
	}
	switch len(found) {
	case 0:
		return 0, fmt.Errorf("find QEMU of sandbox %s: no such process: %w", id, errNotActive)
	case 1:
		return found[0], nil
	default:
		return 0, fmt.Errorf("find QEMU of sandbox %s: processes %v all look like it: %w",
			id, found, errdefs.ErrFailedPrecondition)
	}
}

// isQEMUOf tells whether a process runs a QEMU binary with the name and the UUID of the
// sandbox's domain: the binary, so that no script that only mentions them passes.
func isQEMUOf(root string, pid int, id string) (bool, error) {
	dir := filepath.Join(root, strconv.Itoa(pid))
	raw, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if gone(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	args := strings.Split(string(bytes.TrimRight(raw, "\x00")), "\x00")
	if !isQEMUCommand(args, id) {
		return false, nil
	}
	exe, err := os.Readlink(filepath.Join(dir, "exe"))
	if gone(err) {
		return false, nil // it is just going
	}
	if err != nil {
		return false, err
	}
	return strings.HasPrefix(filepath.Base(exe), "qemu"), nil
}

// isQEMUCommand looks for the arguments that libvirt gives QEMU:
// -name guest=<name>,debug-threads=on ... -uuid <uuid>.
func isQEMUCommand(args []string, id string) bool {
	return hasOption(args, "-uuid", func(v string) bool { return v == vm.UUIDFromID(id) }) &&
		hasOption(args, "-name", func(v string) bool {
			name, _, _ := strings.Cut(v, ",")
			return name == "guest="+vm.DomainName(id)
		})
}

func hasOption(args []string, option string, match func(value string) bool) bool {
	i := slices.Index(args, option)
	return i >= 0 && i+1 < len(args) && match(args[i+1])
}

// listPIDs lists the processes in a procfs.
func listPIDs(root string) ([]int, error) {
	dir, err := os.Open(root)
	if err != nil {
		return nil, err
	}
	defer dir.Close() //nolint:errcheck // it was only read
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// gone tells whether err is that of a process that ended between two looks at it.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}
