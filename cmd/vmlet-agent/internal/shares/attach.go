// SPDX-License-Identifier: Apache-2.0

package shares

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/mountpoint"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// attach puts a copy of a mount at its path in the calling thread's namespace, and returns
// that path without links. A mount point that is missing is made.
func attach(tree int, m *agentv1.ShareMount, device uint64) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(tree, &st); err != nil {
		return "", fmt.Errorf("look at it: %w", err)
	}
	at, err := mountpoint.Make(m.GetPath(), st.Mode&unix.S_IFMT == unix.S_IFDIR)
	if err != nil {
		return "", err
	}
	there, err := alreadyThere(at, m, device)
	if err != nil || there {
		return at, err
	}
	return at, mountpoint.Attach(tree, at, m.GetReadonly())
}

// alreadyThere tells whether the mount is at its place.
func alreadyThere(at string, m *agentv1.ShareMount, device uint64) (bool, error) {
	top, err := mountpoint.Top(at)
	if err != nil || top == nil {
		return false, err
	}
	return mountpoint.Device(top) == device && top.Root == filepath.Join("/", m.GetSource()), nil
}
