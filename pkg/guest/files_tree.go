// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Bounds of what is copied into a guest; the agent keeps to the same.
const (
	maxFile    = 1 << 20
	maxTree    = 4 << 20
	maxEntries = 1000
)

// hostTree is a file or folder of the host that is copied into a guest. Its path is resolved
// once, when it is opened. From then on everything goes by the descriptor of a folder, and
// no link below that is followed.
type hostTree struct {
	vm.FileTree
	// dir is the folder itself, or the one that the file is in as base.
	dir  *os.File
	base string
	// path is where dir was found: to watch it.
	path string
	// known tells what the guest has, so that nothing is sent twice.
	known digest
}

// openTree opens a tree. FailedPrecondition if it is not there, or not what it should be.
func openTree(t vm.FileTree) (*hostTree, error) {
	path, err := filepath.EvalSymlinks(t.HostPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("mount at %s: host path %s does not exist: %w", t.GuestPath, t.HostPath, errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return nil, fmt.Errorf("mount at %s: %w", t.GuestPath, err)
	}
	h := &hostTree{FileTree: t, path: path}
	if !t.Directory {
		h.path, h.base = filepath.Split(path)
		h.path = filepath.Clean(h.path)
	}
	fd, err := unix.Open(h.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("mount at %s: open %s: %w", t.GuestPath, h.path, err)
	}
	h.dir = os.NewFile(uintptr(fd), h.path)
	return h, nil
}

func (h *hostTree) close() error { return h.dir.Close() }

// writable tells whether the guest's changes come back. What the atomic writer keeps is the
// writer's: a guest has no part in it.
func (h *hostTree) writable() bool { return !h.ReadOnly && !h.Directory }

// open opens something of the tree without following any link.
func (h *hostTree) open(name string, flags int) (*os.File, error) {
	fd, err := unix.Openat2(int(h.dir.Fd()), name, &unix.OpenHow{
		Flags: uint64(flags) | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: filepath.Join(h.path, name), Err: err}
	}
	return os.NewFile(uintptr(fd), filepath.Join(h.path, name)), nil
}

// openFile opens a regular file of the tree.
func (h *hostTree) openFile(name string, flags int) (*os.File, error) {
	f, err := h.open(name, flags)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file: %w", f.Name(), errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// compare notes whether the guest has what the host has.
func (h *hostTree) compare(content []byte) error {
	now, err := h.read()
	if err == nil && bytes.Equal(now.content, content) {
		h.known = now.digest()
	}
	return err
}

// write gives the host's file the content that the guest's has. It is written into the file
// that is there, which may be mounted elsewhere; and never through a link.
func (h *hostTree) write(content []byte) (err error) {
	if len(content) > maxFile {
		return fmt.Errorf("%s: the guest's has more than %d bytes: %w", h.HostPath, maxFile, errdefs.ErrResourceExhausted)
	}
	now, err := h.read()
	if err != nil {
		return err
	}
	if bytes.Equal(now.content, content) {
		h.known = now.digest()
		return nil
	}
	f, err := h.openFile(h.base, unix.O_WRONLY)
	if err != nil {
		return fmt.Errorf("write back: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.WriteAt(content, 0); err != nil {
		return fmt.Errorf("write back: %w", err)
	}
	if err := f.Truncate(int64(len(content))); err != nil {
		return fmt.Errorf("write back: %w", err)
	}
	now.setContent(content)
	h.known = now.digest()
	return nil
}
