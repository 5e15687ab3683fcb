// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/keylock"
	"github.com/vmlet/vmlet/pkg/paths"
)

// Modes of folders and files; the package comment says why.
const (
	rootMode    os.FileMode = 0o711
	sandboxMode os.FileMode = 0o710
	ownMode     os.FileMode = 0o600 // of what QEMU's user owns
	seedMode    os.FileMode = 0o640
)

// Config is what the adapter needs to know about the node.
type Config struct {
	Paths paths.Node
	// User and Group are whom QEMU runs as, by name or by number; "" is the daemon's own.
	User  string
	Group string
	// Allowed are the folders that files and devices of callers may be in.
	Allowed []string
	// Checkpoints are the folders that checkpoints may be below.
	Checkpoints []string
}

// Disks makes and removes the files of sandboxes and of persistent disks. It is safe for
// concurrent use.
type Disks struct {
	// sandboxes and disks hold a folder each per sandbox and per persistent disk.
	sandboxes, disks string
	owner            owner
	// user is how owner is called, for errors.
	user    string
	allowed []string
	// checkpoints are the folders that checkpoints may be below.
	checkpoints []string
	// root is vmlet's own folder, in which nothing is a caller's.
	root string
	// locks serialises what is done to one path.
	locks keylock.Locks
}

// New makes the folders of the sandboxes and of the persistent disks. InvalidArgument: there is no such user or group.
func New(cfg Config) (*Disks, error) {
	who, err := lookup(cfg.User, cfg.Group)
	if err != nil {
		return nil, err
	}
	d := &Disks{sandboxes: cfg.Paths.Sandboxes(), disks: cfg.Paths.Disks(), owner: who, user: cfg.User, allowed: cfg.Allowed, checkpoints: cfg.Checkpoints, root: cfg.Paths.Root}
	for _, dir := range []string{d.sandboxes, d.disks} {
		if err := os.MkdirAll(dir, rootMode); err != nil {
			return nil, fmt.Errorf("folder of sandboxes or disks: %w", err)
		}
		if err := os.Chmod(dir, rootMode); err != nil { // past the umask
			return nil, fmt.Errorf("folder of sandboxes or disks: %w", err)
		}
	}
	return d, nil
}

// place is where a file is: in a folder of a sandbox or of a persistent disk.
type place struct {
	dir  string // that of all such folders
	id   string
	file string
}

// part is the name of the file while it is being made.
func (p place) part() string { return "." + p.file + ".part" }

// locate takes a path apart. InvalidArgument: it is not that of a file of a sandbox or of a
// persistent disk.
func (d *Disks) locate(path string) (place, error) {
	for _, dir := range []string{d.sandboxes, d.disks} {
		rest, below := strings.CutPrefix(path, dir+"/")
		id, file, two := strings.Cut(rest, "/")
		if below && two && isName(id) && isName(file) {
			return place{dir, id, file}, nil
		}
	}
	return place{}, fmt.Errorf("%q is not a file of a sandbox in %s, nor a disk in %s: %w", path, d.sandboxes, d.disks, errdefs.ErrInvalidArgument)
}

// isName tells whether s names a sandbox, a disk or a file in its folder: one element of a path,
// and none of our own parts.
func isName(s string) bool {
	control := func(r rune) bool { return r < ' ' || r == 0x7f }
	return s != "" && s[0] != '.' && !strings.Contains(s, "/") && strings.IndexFunc(s, control) < 0
}

// folder opens the folder of a sandbox or a disk, which with create is made if it is not
// there. Without it the error may be fs.ErrNotExist.
func (d *Disks) folder(dir, id string, create bool) (*os.Root, error) {
	all, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = all.Close() }() //nolint:errcheck // nothing was written through it
	if create {
		if err := d.makeFolder(all, id); err != nil {
			return nil, storageError(err)
		}
	}
	info, err := all.Lstat(id)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s in %s is not a folder: %w", id, dir, errdefs.ErrFailedPrecondition)
	}
	return all.OpenRoot(id)
}

// makeFolder makes a folder, or finishes what a crash left.
func (d *Disks) makeFolder(all *os.Root, id string) error {
	if err := all.Mkdir(id, sandboxMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := all.Lstat(id)
	if err != nil || !info.IsDir() {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Gid) == d.owner.gid && info.Mode().Perm() == sandboxMode {
		return nil
	}
	if err := all.Lchown(id, os.Getuid(), d.owner.gid); err != nil {
		return err
	}
	return all.Chmod(id, sandboxMode)
}

// storageError gives an error of the file system its class: ResourceExhausted if there is
// no room.
func storageError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("no room left for disks: %w: %w", err, errdefs.ErrResourceExhausted)
	}
	return err
}
