// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/qcow2head"
	"github.com/vmlet/vmlet/pkg/vm"
)

// allowedKey is the key of the configuration that says where callers' files may be.
const allowedKey = "disks.allowedPaths"

// noLinks is how a caller's path is walked: below an allowed folder, and by no link at all.
const noLinks = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// Source looks at the file or block device at a caller's path, and says whether a VM may have it. FailedPrecondition, with
// what to do about it, for one that is not in an allowed folder, that somebody could swap for another, that QEMU's user
// cannot open or that is not of its format. NotFound if nothing is there. Nothing is changed.
//
// QEMU opens the path by itself, later and at each boot. That it finds there what was looked at holds because on the way
// to it nobody but root can put anything else: every folder from the allowed one on is root's and writable by root alone.
func (d *Disks) Source(ctx context.Context, path string, format vm.DiskFormat, readOnly bool) (vm.DiskSource, error) {
	found, err := d.source(ctx, path, format, readOnly)
	if err != nil {
		return vm.DiskSource{}, fmt.Errorf("disk at %s: %w", path, err)
	}
	return found, nil
}

func (d *Disks) source(ctx context.Context, path string, format vm.DiskFormat, readOnly bool) (_ vm.DiskSource, err error) {
	root, err := d.allowedRoot(path)
	if err != nil {
		return vm.DiskSource{}, err
	}
	handle, err := walk(root, path)
	if err != nil {
		return vm.DiskSource{}, err
	}
	defer func() { err = errors.Join(err, unix.Close(handle)) }()
	found, err := identify(handle)
	if err != nil {
		return vm.DiskSource{}, err
	}
	if err := d.reachable(ctx, path, readOnly); err != nil {
		return vm.DiskSource{}, err
	}
	// The name of the descriptor: it leads to what was found, whatever the path leads to by now.
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", handle))
	if err != nil {
		return vm.DiskSource{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	found.Size, err = judge(f, format, found.Block)
	if found.Block && err == nil {
		found.Allocated = found.Size
		err = unused(f.Name(), readOnly)
	}
	return found, err
}

// unused refuses a device that the host itself writes to: that, and a guest, would destroy what is on it.
func unused(device string, readOnly bool) error {
	if readOnly {
		return nil
	}
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("the host uses it (it is mounted, swap, or a part of something): %w", errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// allowedRoot is the folder of the allow-list that path is in.
func (d *Disks) allowedRoot(path string) (string, error) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return "", fmt.Errorf("the path must be absolute and clean: %w", errdefs.ErrInvalidArgument)
	}
	if isBelow(path, d.root) {
		return "", fmt.Errorf("it is in %s, which is vmlet's own: %w", d.root, errdefs.ErrFailedPrecondition)
	}
	for _, dir := range d.allowed {
		if isBelow(path, filepath.Clean(dir)) {
			return filepath.Clean(dir), nil
		}
	}
	if len(d.allowed) == 0 {
		return "", fmt.Errorf("no path is allowed on this node; allow its folder in the configuration (%s) and restart vmlet: %w", allowedKey, errdefs.ErrFailedPrecondition)
	}
	return "", fmt.Errorf("it is in none of the folders that %s allows (%s): %w", allowedKey, strings.Join(d.allowed, ", "), errdefs.ErrFailedPrecondition)
}

func isBelow(path, dir string) bool {
	return strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// walk opens what is at path, by no link, and looks at each folder on the way.
func walk(root, path string) (handle int, err error) {
	at, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the allowed folder %s: %w", root, pathError(err))
	}
	name := root
	for part := range strings.SplitSeq(strings.TrimPrefix(strings.TrimPrefix(path, root), "/"), "/") {
		if err := rootOnly(at, name); err != nil {
			return -1, errors.Join(err, unix.Close(at))
		}
		next, err := unix.Openat2(at, part, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: noLinks})
		if err = errors.Join(err, unix.Close(at)); err != nil {
			return -1, fmt.Errorf("%s: %w", filepath.Join(name, part), pathError(err))
		}
		at, name = next, filepath.Join(name, part)
	}
	return at, nil
}

// pathError gives an error on the way to a file its class.
func pathError(err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.EXDEV):
		return fmt.Errorf("it is a symbolic link, which is not followed; name what it leads to: %w", errdefs.ErrFailedPrecondition)
	}
	return err
}

// rootOnly refuses a folder in which somebody else than root could put something.
func rootOnly(dir int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR && (int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0) {
		return fmt.Errorf("the folder %s can be written by others than root, who could swap the file for another: make it root's and mode 0755 or less: %w",
			name, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// identify tells what a handle is of: a regular file or a block device.
func identify(handle int) (vm.DiskSource, error) {
	var st unix.Stat_t
	if err := unix.Fstat(handle, &st); err != nil {
		return vm.DiskSource{}, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return vm.DiskSource{Identity: fmt.Sprintf("file %d:%d", st.Dev, st.Ino), Allocated: st.Blocks * 512}, nil
	case unix.S_IFBLK:
		return vm.DiskSource{Identity: fmt.Sprintf("block %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)), Block: true}, nil
	default:
		return vm.DiskSource{}, fmt.Errorf("it is neither a regular file nor a block device: %w", errdefs.ErrFailedPrecondition)
	}
}

// judge finds the size that a guest sees, and refuses what is not of the format that it was said to be of.
func judge(f *os.File, format vm.DiskFormat, block bool) (int64, error) {
	size, err := f.Seek(0, io.SeekEnd) // also of a device
	if err != nil {
		return 0, err
	}
	head := make([]byte, qcow2head.Size)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	isQCOW2 := strings.HasPrefix(string(head[:n]), qcow2head.Magic)
	switch {
	case format == vm.FormatQCOW2 && block:
		return 0, fmt.Errorf("it is a block device, whose format is %s: %w", vm.FormatRaw, errdefs.ErrFailedPrecondition)
	case format == vm.FormatQCOW2 && !isQCOW2:
		return 0, fmt.Errorf("it is no qcow2 file: %w", errdefs.ErrFailedPrecondition)
	case format == vm.FormatQCOW2:
		return qcow2head.Check(head[:n], size)
	case isQCOW2:
		return 0, fmt.Errorf("it is said to be raw and is qcow2: %w", errdefs.ErrFailedPrecondition)
	case size == 0 || size%sector != 0:
		return 0, fmt.Errorf("it has %d bytes, and a raw disk has a multiple of %d: %w", size, sector, errdefs.ErrFailedPrecondition)
	}
	return size, nil
}
