// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/containerd/errdefs"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

const (
	// maxRead is the most that ReadFile returns at a time.
	maxRead = 512 << 10
	// maxWrite is the largest file that is written: files of this size go by other ways.
	maxWrite = 256 << 20
)

// ReadFile returns a part of a file. FailedPrecondition for what is not a regular file.
func (*Machine) ReadFile(req *agentv1.ReadFileRequest) (*agentv1.FileContent, error) {
	// Without waiting: a pipe, or a device, would have the agent wait for ever.
	f, err := os.OpenFile(req.GetPath(), os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file: %w", req.GetPath(), errdefs.ErrFailedPrecondition)
	}
	offset := int64(req.GetOffset())
	if offset < 0 {
		return nil, fmt.Errorf("offset %d: %w", req.GetOffset(), errdefs.ErrInvalidArgument)
	}
	// Files of the kernel have no size: only reading tells where they end.
	buf := make([]byte, min(int64(req.GetLimit()), maxRead))
	n, err := f.ReadAt(buf, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return &agentv1.FileContent{Data: buf[:n], End: err != nil, Size: uint64(info.Size())}, nil
}

// WriteFile replaces a file, whole or not at all, with what next returns until io.EOF.
func (*Machine) WriteFile(req *agentv1.WriteFileRequest, next func() ([]byte, error)) error {
	if !filepath.IsAbs(req.GetPath()) {
		return fmt.Errorf("path %q is not absolute: %w", req.GetPath(), errdefs.ErrInvalidArgument)
	}
	return inPlaceOf(req.GetPath(), func(f *os.File) error {
		for size := 0; ; {
			b, err := next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			if size += len(b); size > maxWrite {
				return fmt.Errorf("more than %d bytes: %w", maxWrite, errdefs.ErrInvalidArgument)
			}
			if _, err := f.Write(b); err != nil {
				return err
			}
		}
		// Owner before mode: a change of owner clears set-user-ID.
		if err := f.Chown(int(req.GetUid()), int(req.GetGid())); err != nil {
			return err
		}
		if err := syscall.Fchmod(int(f.Fd()), req.GetMode()&0o7777); err != nil {
			return err
		}
		return f.Sync()
	})
}
