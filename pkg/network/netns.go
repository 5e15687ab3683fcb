// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/moby/sys/mountinfo"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// shareFolder makes dir a shared mount, as the field does with /run/netns: what is mounted
// in it appears in, and above all disappears from, other mount namespaces too. Otherwise a
// namespace made meanwhile (a container's, QEMU's) would keep every netns alive.
func shareFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // namespaces are entered by others: ip netns, QEMU's helpers
		return err
	}
	mounted, err := mountinfo.Mounted(dir)
	if err != nil {
		return err
	}
	if !mounted {
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount on itself: %w", err)
		}
	}
	if err := unix.Mount("", dir, "", unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("make shared: %w", err)
	}
	return nil
}

// createNetNS makes a muted network namespace and mounts it at path, or leaves nothing.
// AlreadyExists if there is something at path.
func createNetNS(ctx context.Context, path string) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444) //nolint:gosec // it is but a place to mount on
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create netns %s: %w", path, errdefs.ErrAlreadyExists)
	}
	if err != nil {
		return fmt.Errorf("create netns: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	if err := f.Close(); err != nil {
		return fmt.Errorf("create netns: %w", err)
	}
	// TempNetNS never gives a thread back to the Go runtime that it could not put back into
	// its own namespace.
	netns, err := ns.TempNetNS()
	if err != nil {
		return fmt.Errorf("create netns: %w", err)
	}
	defer func() { err = errors.Join(err, netns.Close()) }()
	if err := silence().send(ctx, int(netns.Fd())); err != nil {
		return fmt.Errorf("mute netns: %w", err)
	}
	if err := netns.Do(func(ns.NetNS) error { return skipDAD() }); err != nil {
		return fmt.Errorf("prepare netns: %w", err)
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", netns.Fd()), path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount netns at %s: %w", path, err)
	}
	return nil
}

// skipDAD makes IPv6 addresses in this thread's namespace usable at once. A mute stack finds
// no duplicates, and plugins wait for it to have looked: two seconds in ptp's ADD. The guest
// looks for itself.
func skipDAD() error {
	err := os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0)
	if errors.Is(err, fs.ErrNotExist) { // a kernel without IPv6
		return nil
	}
	return err
}

// removeNetNS lets go of the namespace at path. Idempotent.
func removeNetNS(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) { // EINVAL: not mounted
		return fmt.Errorf("unmount netns %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove netns: %w", err)
	}
	return nil
}

// findNetNS looks for the namespace at path. NotFound if there is none, also if only the
// mount point is left, as after a crash or where <state> survives a reboot.
func findNetNS(path string) error {
	err := ns.IsNSorErr(path)
	if errors.As(err, &ns.NSPathNotExistErr{}) || errors.As(err, &ns.NSPathNotNSErr{}) {
		return fmt.Errorf("no netns at %s: %w", path, errdefs.ErrNotFound)
	}
	return err
}

// withNetNS opens the namespace at path for do. It does not run do in there. NotFound if
// there is none.
func withNetNS(path string, do func(ns.NetNS) error) (err error) {
	if err := findNetNS(path); err != nil {
		return err
	}
	netns, err := ns.GetNS(path)
	if err != nil {
		return fmt.Errorf("open netns: %w", err)
	}
	defer func() { err = errors.Join(err, netns.Close()) }()
	return do(netns)
}

// linksIn opens rtnetlink in a namespace. The socket stays there; the thread does not.
func linksIn(netns ns.NetNS) (*netlink.Handle, error) {
	var h *netlink.Handle
	err := netns.Do(func(ns.NetNS) (err error) {
		h, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink in %s: %w", netns.Path(), err)
	}
	return h, nil
}
