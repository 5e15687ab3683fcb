// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/vm"
)

// ReadFiles implements lifecycle.Guest: what cloud-init copies into a guest without our agent.
func (*Guest) ReadFiles(trees []vm.FileTree) (files []vm.SeedFile, err error) {
	for _, t := range trees {
		of, err := seedFiles(t)
		if err != nil {
			return nil, fmt.Errorf("read what is to be copied into the guest: %w", err)
		}
		files = append(files, of...)
	}
	return files, nil
}

// seedFiles reads one tree. Of an atomic writer's folder these are the files that its links
// show: all that is below "..data", by the paths below the folder.
func seedFiles(t vm.FileTree) (_ []vm.SeedFile, err error) {
	h, err := openTree(t)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	s, err := h.read()
	if err != nil {
		return nil, err
	}
	shown := ""
	if t.Directory {
		shown = s.linkOf(dataLink) + string(filepath.Separator)
	}
	var files []vm.SeedFile
	rest := s.content
	for _, e := range s.entries {
		content := rest[:e.GetSize()]
		rest = rest[e.GetSize():]
		path, isShown := strings.CutPrefix(e.GetPath(), shown)
		if !isShown || e.GetMode()&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		files = append(files, vm.SeedFile{
			Path: filepath.Join(t.GuestPath, path), Mode: e.GetMode() & 0o7777, UID: e.GetUid(), GID: e.GetGid(),
			Content: content, ReadOnly: t.ReadOnly || t.Directory,
		})
	}
	return files, nil
}

// linkOf is where a link of the snapshot leads, "" if there is none by that name.
func (s *snapshot) linkOf(path string) string {
	for _, e := range s.entries {
		if e.GetPath() == path {
			return e.GetLink()
		}
	}
	return ""
}
