// SPDX-License-Identifier: Apache-2.0

// Package files keeps copies of the host's small files in the guest: /etc/hosts, the
// termination log, ConfigMaps, Secrets, tokens.
//
// The copies are in a tmpfs, so that secrets reach no disk, in a mount namespace that
// nothing runs in. From there each tree is bound to its place. A single file keeps its
// inode for as long as it is bound: new content is written into it. In a folder each file
// is replaced whole, and where the folder has the atomic writer's "..data" link, all of
// them at once: the link moves to a new folder.
package files

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/mountns"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/mountpoint"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

const (
	// holder names the namespace that the tmpfs is mounted in, source the tmpfs.
	holder = "vmlet-agent/files"
	source = "vmlet-files"
	// maxTrees bounds what the host can make the guest hold.
	maxTrees = 256
	// single is the name of a single file in its tree.
	single = "file"
)

// Files are the copies. It is safe for concurrent use.
type Files struct {
	namespaces *mountns.Set
	dir        string

	mu     sync.Mutex
	root   *os.Root // of the tmpfs, nil before it is mounted
	device uint64
	trees  map[place]*tree
}

type place struct{ namespace, path string }

// tree is one copy.
type tree struct {
	sync.Mutex
	name   string // its folder in the tmpfs
	root   *os.Root
	folder bool
	// synced tells the content that a single file was synced with.
	synced [sha256.Size]byte
}

// New returns Files whose tmpfs is mounted at dir, say /run/vmlet/files.
func New(namespaces *mountns.Set, dir string) *Files {
	return &Files{namespaces: namespaces, dir: dir, trees: map[place]*tree{}}
}

// Sync brings a tree up to date and makes sure that it is bound to its place. next returns
// the chunks of the entries that have a size. When it fails, a folder with "..data" shows
// what it has shown before. InvalidArgument for what is no tree, or too large a one.
func (f *Files) Sync(req *agentv1.SyncFilesRequest, next func() (*agentv1.FileChunk, error)) error {
	if err := check(req); err != nil {
		return fmt.Errorf("files at %s: %w", req.GetPath(), err)
	}
	t, err := f.tree(req)
	if err != nil {
		return fmt.Errorf("files at %s: %w", req.GetPath(), err)
	}
	t.Lock()
	defer t.Unlock()
	in := content{next: next}
	if t.folder {
		err = t.syncFolder(req.GetEntries(), in)
	} else {
		err = t.syncFile(req.GetEntries()[0], in)
	}
	if err == nil {
		err = f.bind(t, req)
	}
	if err != nil {
		return fmt.Errorf("files at %s: %w", req.GetPath(), err)
	}
	return nil
}

// tree returns the copy of a place, which it makes if need be.
func (f *Files) tree(req *agentv1.SyncFilesRequest) (*tree, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := place{req.GetNamespace(), req.GetPath()}
	if t := f.trees[at]; t != nil {
		if t.folder != req.GetDirectory() {
			return nil, fmt.Errorf("a folder and a file cannot take each other's place: %w", errdefs.ErrFailedPrecondition)
		}
		return t, nil
	}
	if len(f.trees) >= maxTrees {
		return nil, fmt.Errorf("there are %d trees already: %w", maxTrees, errdefs.ErrResourceExhausted)
	}
	if err := f.mount(); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q", at.namespace, at.path))
	t := &tree{name: fmt.Sprintf("%x", sum[:12]), folder: req.GetDirectory()}
	if err := f.root.MkdirAll(t.name, 0o755); err != nil {
		return nil, fmt.Errorf("make the copy's folder: %w", err)
	}
	var err error
	if t.root, err = f.root.OpenRoot(t.name); err != nil {
		return nil, fmt.Errorf("open the copy's folder: %w", err)
	}
	f.trees[at] = t
	return t, nil
}

// mount makes the tmpfs, once. The caller holds mu.
func (f *Files) mount() error {
	if f.root != nil {
		return nil
	}
	return f.namespaces.Do(holder, func() error {
		if err := os.MkdirAll(f.dir, 0o700); err != nil {
			return fmt.Errorf("make a mount point for copies: %w", err)
		}
		if err := unix.Mount(source, f.dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700,size=64m"); err != nil {
			return fmt.Errorf("mount a tmpfs for copies: %w", err)
		}
		top, err := mountpoint.Top(f.dir)
		if err != nil || top == nil {
			return errors.Join(err, fmt.Errorf("the tmpfs is not to be found"))
		}
		f.device = mountpoint.Device(top)
		f.root, err = os.OpenRoot(f.dir)
		return err
	})
}

// bind makes sure that the copy is at its place.
func (f *Files) bind(t *tree, req *agentv1.SyncFilesRequest) error {
	name := t.name
	if !t.folder {
		name = filepath.Join(name, single)
	}
	copied := -1
	err := f.namespaces.Do(holder, func() (err error) {
		copied, err = unix.OpenTree(unix.AT_FDCWD, filepath.Join(f.dir, name), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		return err
	})
	if err != nil {
		return fmt.Errorf("open the copy: %w", err)
	}
	defer unix.Close(copied) //nolint:errcheck // a descriptor of a path
	return f.namespaces.Do(req.GetNamespace(), func() error {
		at, err := mountpoint.Make(req.GetPath(), t.folder)
		if err != nil {
			return err
		}
		top, err := mountpoint.Top(at)
		if err != nil {
			return err
		}
		if top != nil && mountpoint.Device(top) == f.device && top.Root == "/"+name {
			return nil
		}
		// One of an agent that was here before.
		if top != nil && top.Source == source {
			if err := mountpoint.Detach(at); err != nil {
				return fmt.Errorf("take an older copy away: %w", err)
			}
		}
		return mountpoint.Attach(copied, at, req.GetReadonly())
	})
}
