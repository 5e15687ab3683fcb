// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// largestCopy is how big a single file may be, in bytes, to be copied into the guest: what
// kubelet makes (/etc/hosts, the termination log) is small, and bounded to as much.
const largestCopy = vm.MiB

// judgeMounts says how each mount comes into the guest, by what its host path is now. Small
// files and the folders that kubelet's atomic writer keeps (ConfigMap, Secret, projected
// volumes) are copied and kept in step; everything else is shared. Outer mounts come before
// what is mounted inside them, as runtimes order them. FailedPrecondition: there is no such host
// path. InvalidArgument: it is nothing that a guest could have.
func judgeMounts(mounts []vm.Mount) (files []vm.FileTree, shares []vm.ShareMount, err error) {
	mounts = slices.Clone(mounts)
	slices.SortStableFunc(mounts, func(a, b vm.Mount) int { return depth(a.ContainerPath) - depth(b.ContainerPath) })
	for _, m := range mounts {
		info, err := os.Stat(m.HostPath)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("mount at %s: host path %s does not exist: %w", m.ContainerPath, m.HostPath, errdefs.ErrFailedPrecondition)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("mount at %s: %w", m.ContainerPath, err)
		}
		mode := info.Mode()
		switch {
		case mode.IsDir() && isAtomicallyWritten(m.HostPath), mode.IsRegular() && info.Size() <= largestCopy:
			files = append(files, vm.FileTree{
				HostPath: m.HostPath, GuestPath: m.ContainerPath, Directory: mode.IsDir(), ReadOnly: m.ReadOnly,
			})
		case mode.IsDir(), mode.IsRegular():
			shares = append(shares, vm.ShareMount{
				HostPath: m.HostPath, GuestPath: m.ContainerPath, HostToGuest: m.HostToGuest,
				ReadOnly: m.ReadOnly, RecursiveReadOnly: m.RecursiveReadOnly,
			})
		default:
			return nil, nil, fmt.Errorf("mount at %s: host path %s is a %s, which cannot be had in a guest: %w",
				m.ContainerPath, m.HostPath, kindOf(mode), errdefs.ErrInvalidArgument)
		}
	}
	return files, shares, nil
}

func depth(path string) int { return strings.Count(filepath.Clean(path), "/") }

// isAtomicallyWritten tells whether kubelet's atomic writer keeps the folder: all that is in
// it hangs on one link, "..data", which is moved to a new folder at each change.
func isAtomicallyWritten(dir string) bool {
	info, err := os.Lstat(filepath.Join(dir, "..data"))
	return err == nil && info.Mode()&fs.ModeSymlink != 0
}

func kindOf(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeSocket != 0:
		return "socket"
	case mode&fs.ModeNamedPipe != 0:
		return "named pipe"
	default:
		return "device"
	}
}
