// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// NewFile is a file that is being written, beside the place that it is for. Its folder is held open: what becomes of the
// path meanwhile leads it nowhere else.
type NewFile struct {
	req  *agentv1.PutFileRequest
	dir  *os.Root
	file *os.File
	// temp is its name until it has its own, name.
	temp, name string
}

// CreateFile begins to write a file, and refuses what could not be put in its place. What it returns is the caller's to
// Commit or to Abandon.
func (*Machine) CreateFile(req *agentv1.PutFileRequest) (*NewFile, error) {
	path := req.GetPath()
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" {
		return nil, fmt.Errorf("path %q is not an absolute one without detours: %w", path, errdefs.ErrInvalidArgument)
	}
	dir, err := openFolder(filepath.Dir(path), req.GetParents())
	if err != nil {
		return nil, err
	}
	f := &NewFile{req: req, dir: dir, temp: ".vmlet-" + rand.Text(), name: filepath.Base(path)}
	if err = f.free(); err == nil {
		f.file, err = dir.OpenFile(f.temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // nobody else's to write
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return f, nil
}

func openFolder(path string, parents bool) (*os.Root, error) {
	if parents {
		if err := os.MkdirAll(path, 0o755); err != nil { //nolint:gosec // as any folder of a system's
			return nil, err
		}
	}
	dir, err := os.OpenRoot(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no folder %s: %w", path, errdefs.ErrNotFound)
	}
	return dir, err
}

// free refuses a place that something has which is not to go.
func (f *NewFile) free() error {
	info, err := f.dir.Lstat(f.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return notRegular(f.req.GetPath())
	case !f.req.GetOverwrite():
		return f.taken()
	}
	return nil
}

func (f *NewFile) taken() error {
	return fmt.Errorf("%s is there already: %w", f.req.GetPath(), errdefs.ErrAlreadyExists)
}

// Fill writes what next returns until io.EOF.
func (f *NewFile) Fill(next func() ([]byte, error)) error {
	for {
		b, err := next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := f.file.Write(b); err != nil {
			return err
		}
	}
}

// Commit gives the file its owner, its mode and its place, and returns when that is on disk. If it fails nothing is left.
func (f *NewFile) Commit() (err error) {
	if err = f.finish(); err == nil {
		err = f.place()
	}
	if err != nil {
		return errors.Join(err, f.Abandon())
	}
	folder, err := f.dir.Open(".")
	if err == nil {
		err = errors.Join(folder.Sync(), folder.Close())
	}
	return errors.Join(err, f.file.Close(), f.dir.Close())
}

// Abandon leaves nothing of the file.
func (f *NewFile) Abandon() error {
	return errors.Join(f.file.Close(), f.dir.Remove(f.temp), f.dir.Close())
}

func (f *NewFile) finish() error {
	// Owner before mode: a change of owner clears set-user-ID.
	if err := f.file.Chown(int(f.req.GetUid()), int(f.req.GetGid())); err != nil {
		return err
	}
	if err := syscall.Fchmod(int(f.file.Fd()), f.req.GetMode()&modeBits); err != nil {
		return err
	}
	return f.file.Sync()
}

// place gives the file its name.
func (f *NewFile) place() error {
	if f.req.GetOverwrite() {
		if err := f.free(); err != nil { // something else may have come meanwhile
			return err
		}
		return f.dir.Rename(f.temp, f.name)
	}
	folder, err := f.dir.Open(".")
	if err != nil {
		return err
	}
	defer folder.Close() //nolint:errcheck // it was only pointed to
	fd := int(folder.Fd())
	err = unix.Renameat2(fd, f.temp, fd, f.name, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // not every file system can
		if err = f.dir.Link(f.temp, f.name); err == nil {
			err = f.dir.Remove(f.temp)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return f.taken()
	}
	return err
}
