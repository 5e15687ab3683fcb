// SPDX-License-Identifier: Apache-2.0

package files

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// What a tree may have; the host keeps to the same.
const (
	maxEntries = 1000
	maxFile    = 1 << 20
	maxTree    = 4 << 20
)

// check makes sure that a request describes a tree: parents before what is in them, nothing
// twice, nothing outside.
func check(req *agentv1.SyncFilesRequest) error {
	entries := req.GetEntries()
	switch {
	case !filepath.IsAbs(req.GetPath()):
		return invalid("the path is not absolute")
	case len(entries) == 0 || entries[0].GetPath() != "":
		return invalid("it does not begin with its root")
	case len(entries) > maxEntries:
		return invalid("%d entries, at most %d", len(entries), maxEntries)
	case !req.GetDirectory() && (len(entries) != 1 || kind(entries[0]) != unix.S_IFREG):
		return invalid("a single file is one regular file")
	case req.GetDirectory() && kind(entries[0]) != unix.S_IFDIR:
		return invalid("the root of a folder is none")
	}
	var total uint64
	folders, seen := map[string]bool{".": true}, map[string]bool{}
	for i, e := range entries {
		path := e.GetPath()
		if i > 0 && (!filepath.IsLocal(path) || filepath.Clean(path) != path || path == "." || !folders[filepath.Dir(path)] || seen[path]) {
			return invalid("entry %q is outside of the tree, before its folder, or there twice", path)
		}
		seen[path] = true
		switch kind(e) {
		case unix.S_IFDIR:
			folders[path] = true
		case unix.S_IFREG:
			if e.GetSize() > maxFile {
				return invalid("%q has %d bytes, at most %d", path, e.GetSize(), maxFile)
			}
			total += e.GetSize()
		case unix.S_IFLNK:
			if e.GetLink() == "" || len(e.GetLink()) >= unix.PathMax {
				return invalid("link %q leads nowhere", path)
			}
		default:
			return invalid("%q is neither folder, file nor link", path)
		}
		if kind(e) != unix.S_IFREG && e.GetSize() != 0 {
			return invalid("%q is no file and has a size", path)
		}
	}
	if total > maxTree {
		return invalid("%d bytes, at most %d", total, maxTree)
	}
	return nil
}

func kind(e *agentv1.FileEntry) uint32 { return e.GetMode() & unix.S_IFMT }

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrInvalidArgument)...)
}

// content reads the files of a tree from its chunks.
type content struct {
	next func() (*agentv1.FileChunk, error)
}

// read returns the content of the next file.
func (c content) read(size uint64) ([]byte, error) {
	if size == 0 {
		return nil, nil
	}
	var data []byte
	for {
		chunk, err := c.next()
		if errors.Is(err, io.EOF) {
			return nil, invalid("content ends before its end")
		}
		if err != nil {
			return nil, err
		}
		data = append(data, chunk.GetData()...)
		if uint64(len(data)) > size {
			return nil, invalid("content is longer than it was said to be")
		}
		if chunk.GetLast() {
			break
		}
	}
	if uint64(len(data)) != size {
		return nil, invalid("content of %d bytes was said to have %d", len(data), size)
	}
	return data, nil
}
