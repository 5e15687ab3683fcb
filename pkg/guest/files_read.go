// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/vmlet/vmlet/pkg/agentlink"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// readTries is how often a folder is read again that changes meanwhile.
const readTries = 10

// dataLink is what all of an atomic writer's folder hangs on.
const dataLink = "..data"

// errChanging is a folder that was not the same throughout a reading.
var errChanging = fmt.Errorf("it changes all the time: %w", errdefs.ErrUnavailable)

// snapshot is a tree at one moment: its entries, and the content of all files in their order.
type snapshot struct {
	entries []*agentv1.FileEntry
	content []byte
}

// digest tells snapshots apart.
type digest [sha256.Size]byte

func (s *snapshot) digest() (d digest) {
	h := sha256.New()
	for _, e := range s.entries {
		text, _ := proto.MarshalOptions{Deterministic: true}.Marshal(e) //nolint:errcheck // a message with nothing required
		fmt.Fprintf(h, "%d:%s", len(text), text)                        //nolint:errcheck // a hash takes everything
	}
	h.Write(s.content)
	return digest(h.Sum(nil))
}

// setContent replaces the content of a single file.
func (s *snapshot) setContent(content []byte) {
	s.content, s.entries[0].Size = content, uint64(len(content))
}

// chunks are the content in pieces, each file's marked at its end.
func (s *snapshot) chunks() (chunks []*agentv1.FileChunk) {
	rest := s.content
	for _, e := range s.entries {
		for left := e.GetSize(); left > 0; {
			n := min(left, agentlink.MaxPiece)
			left -= n
			chunks = append(chunks, &agentv1.FileChunk{Data: rest[:n], Last: left == 0})
			rest = rest[n:]
		}
	}
	return chunks
}

// read takes a snapshot. ResourceExhausted for a tree that is too large, FailedPrecondition
// for one with anything but folders, regular files and links in it.
func (h *hostTree) read() (*snapshot, error) {
	if !h.Directory {
		s := &snapshot{}
		return s, h.readFile(s, h.base, "")
	}
	for range readTries {
		before := h.data()
		s := &snapshot{}
		err := h.readFolder(s, "")
		if err == nil && h.data() == before {
			return s, nil
		}
		// What the atomic writer has replaced is gone in mid-reading.
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("read %s: %w", h.HostPath, errChanging)
}

// data is where the atomic writer's link leads, "" if there is none.
func (h *hostTree) data() string {
	target, err := readlinkat(h.dir, dataLink)
	if err != nil {
		return ""
	}
	return target
}

// readFolder adds a folder with all that is in it.
func (h *hostTree) readFolder(s *snapshot, path string) error {
	dir, err := h.open(filepath.Join(".", path), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // it was only read
	info, err := dir.Stat()
	if err != nil {
		return err
	}
	if err := h.add(s, path, info); err != nil {
		return err
	}
	names, err := dir.Readdirnames(maxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("list %s: %w", dir.Name(), err)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := h.readOne(s, dir, name, filepath.Join(path, name)); err != nil {
			return err
		}
	}
	return nil
}

// readOne adds what a folder has by that name.
func (h *hostTree) readOne(s *snapshot, dir *os.File, name, path string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "stat", Path: filepath.Join(h.path, path), Err: err}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return h.readFolder(s, path)
	case unix.S_IFREG:
		return h.readFile(s, path, path)
	case unix.S_IFLNK:
		target, err := readlinkat(dir, name)
		if err != nil {
			return err
		}
		return h.addEntry(s, &agentv1.FileEntry{Path: path, Mode: st.Mode, Uid: st.Uid, Gid: st.Gid, Link: target})
	default:
		return fmt.Errorf("%s is neither folder, regular file nor link: %w", filepath.Join(h.path, path), errdefs.ErrFailedPrecondition)
	}
}

// readFile adds a regular file, which is to be called path.
func (h *hostTree) readFile(s *snapshot, name, path string) error {
	f, err := h.openFile(name, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", f.Name(), err)
	}
	switch {
	case len(content) > maxFile:
		return tooLarge("%s has more than %d bytes, so it cannot be copied into the guest", f.Name(), maxFile)
	case len(s.content)+len(content) > maxTree:
		return tooLarge("the files in %s have more than %d bytes, so they cannot be copied into the guest", h.HostPath, maxTree)
	}
	if err := h.add(s, path, info); err != nil {
		return err
	}
	s.entries[len(s.entries)-1].Size = uint64(len(content))
	s.content = append(s.content, content...)
	return nil
}

func (h *hostTree) add(s *snapshot, path string, info fs.FileInfo) error {
	st, err := statOf(info)
	if err != nil {
		return err
	}
	return h.addEntry(s, &agentv1.FileEntry{Path: path, Mode: st.Mode, Uid: st.Uid, Gid: st.Gid})
}

func (h *hostTree) addEntry(s *snapshot, e *agentv1.FileEntry) error {
	if len(s.entries) >= maxEntries {
		return tooLarge("there are more than %d files in %s, so they cannot be copied into the guest", maxEntries, h.HostPath)
	}
	s.entries = append(s.entries, e)
	return nil
}

func tooLarge(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrResourceExhausted)...)
}
