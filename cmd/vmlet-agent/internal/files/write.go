// SPDX-License-Identifier: Apache-2.0

package files

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

const (
	// dataLink is what all of an atomic writer's folder hangs on.
	dataLink = "..data"
	// scratch is what a file or link is before it takes its place.
	scratch = "..vmlet-new"
)

// syncFile writes a single file into the inode that it has.
func (t *tree) syncFile(e *agentv1.FileEntry, in content) error {
	data, err := in.read(e.GetSize())
	if err != nil {
		return err
	}
	t.synced = sha256.Sum256(data)
	if !t.has(single, data) {
		if err := t.overwrite(single, data); err != nil {
			return err
		}
	}
	return t.own(single, e)
}

func (t *tree) overwrite(path string, data []byte) error {
	f, err := t.root.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	// The new content before the end of the old one is cut: a reader sees no empty file.
	_, err = f.WriteAt(data, 0)
	return errors.Join(err, f.Truncate(int64(len(data))), f.Close())
}

// syncFolder makes the folder what the entries say, in the order of the atomic writer: what
// is new first, then "..data", then the links to what hangs on it, and last goes what is
// old.
func (t *tree) syncFolder(entries []*agentv1.FileEntry, in content) error {
	var links []*agentv1.FileEntry
	keep := map[string]bool{}
	for _, e := range entries {
		keep[e.GetPath()] = true
		var err error
		switch kind(e) {
		case unix.S_IFDIR:
			err = t.folderAt(e)
		case unix.S_IFREG:
			err = t.fileAt(e, in)
		default:
			links = append(links, e)
		}
		if err != nil {
			return fmt.Errorf("%q: %w", e.GetPath(), err)
		}
	}
	slices.SortStableFunc(links, func(a, b *agentv1.FileEntry) int { return order(a) - order(b) })
	for _, e := range links {
		if err := t.linkAt(e); err != nil {
			return fmt.Errorf("%q: %w", e.GetPath(), err)
		}
	}
	return t.prune(keep)
}

func order(e *agentv1.FileEntry) int {
	if e.GetPath() == dataLink {
		return 0
	}
	return 1
}

func (t *tree) folderAt(e *agentv1.FileEntry) error {
	path := name(e)
	info, err := t.root.Lstat(path)
	if err == nil && !info.IsDir() {
		err = t.root.Remove(path)
		info = nil
	}
	if info == nil && (err == nil || errors.Is(err, fs.ErrNotExist)) {
		err = t.root.Mkdir(path, 0o700)
	}
	if err != nil {
		return err
	}
	return t.own(path, e)
}

// fileAt replaces a file whole, unless it has its content already.
func (t *tree) fileAt(e *agentv1.FileEntry, in content) error {
	data, err := in.read(e.GetSize())
	if err != nil {
		return err
	}
	path := e.GetPath()
	if info, err := t.root.Lstat(path); err == nil && info.Mode().IsRegular() && t.has(path, data) {
		return t.own(path, e)
	}
	fresh := filepath.Join(filepath.Dir(path), scratch)
	if err := t.root.RemoveAll(fresh); err != nil {
		return err
	}
	if err := t.root.WriteFile(fresh, data, 0o600); err != nil {
		return err
	}
	if err := t.own(fresh, e); err != nil {
		return err
	}
	return t.replace(fresh, path)
}

func (t *tree) linkAt(e *agentv1.FileEntry) error {
	path := e.GetPath()
	if target, err := t.root.Readlink(path); err == nil && target == e.GetLink() {
		return nil
	}
	fresh := filepath.Join(filepath.Dir(path), scratch)
	if err := t.root.RemoveAll(fresh); err != nil {
		return err
	}
	if err := t.root.Symlink(e.GetLink(), fresh); err != nil {
		return err
	}
	if err := t.root.Lchown(fresh, int(e.GetUid()), int(e.GetGid())); err != nil {
		return err
	}
	return t.replace(fresh, path)
}

// replace gives what is fresh its place. A folder there is removed first: rename(2) takes
// the place of anything else by itself.
func (t *tree) replace(fresh, path string) error {
	if info, err := t.root.Lstat(path); err == nil && info.IsDir() {
		if err := t.root.RemoveAll(path); err != nil {
			return err
		}
	}
	return t.root.Rename(fresh, path)
}

// prune removes what the tree is not to have: links and files first, then the folders that
// links led to.
func (t *tree) prune(keep map[string]bool) error {
	var files, folders []string
	err := fs.WalkDir(t.root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path == "." || keep[path]:
			return nil
		case d.IsDir():
			folders = append(folders, path)
			return fs.SkipDir
		}
		files = append(files, path)
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for what is old: %w", err)
	}
	for _, path := range append(files, folders...) {
		if err := t.root.RemoveAll(path); err != nil {
			return fmt.Errorf("remove %q: %w", path, err)
		}
	}
	return nil
}

// own gives a file or folder its owner and permissions.
func (t *tree) own(path string, e *agentv1.FileEntry) error {
	if err := t.root.Chown(path, int(e.GetUid()), int(e.GetGid())); err != nil {
		return err
	}
	return t.root.Chmod(path, os.FileMode(e.GetMode()&0o777))
}

// has tells whether a file has that content.
func (t *tree) has(path string, data []byte) bool {
	info, err := t.root.Lstat(path)
	if err != nil || info.Size() != int64(len(data)) {
		return false
	}
	now, err := t.root.ReadFile(path)
	return err == nil && bytes.Equal(now, data)
}

func name(e *agentv1.FileEntry) string {
	if e.GetPath() == "" {
		return "."
	}
	return e.GetPath()
}
