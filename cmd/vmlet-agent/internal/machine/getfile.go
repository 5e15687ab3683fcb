// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"syscall"

	"github.com/containerd/errdefs"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

const (
	// maxSizeless is how much is read of a file that has no size, as those of the kernel.
	maxSizeless = 16 << 20
	// modeBits are the permission bits with set-user-ID, set-group-ID and sticky.
	modeBits = 0o7777
)

// OpenFile opens the part of a file that is asked for, which is the caller's to Close. FailedPrecondition for what is
// not a regular file.
func (*Machine) OpenFile(req *agentv1.GetFileRequest) (*Part, error) {
	if req.GetOffset() > math.MaxInt64 || req.GetLimit() > math.MaxInt64 {
		return nil, fmt.Errorf("offset %d, limit %d: %w", req.GetOffset(), req.GetLimit(), errdefs.ErrInvalidArgument)
	}
	f, err := openRegular(req.GetPath())
	if err != nil {
		return nil, err
	}
	p, err := newPart(f, int64(req.GetOffset()), int64(req.GetLimit()))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return p, nil
}

// openRegular opens a regular file to read.
func openRegular(path string) (*os.File, error) {
	// Without waiting: a pipe, or a device, would have the agent wait for ever.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = notRegular(path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func notRegular(path string) error {
	return fmt.Errorf("%s is not a regular file: %w", path, errdefs.ErrFailedPrecondition)
}

// Part is what is to be read of a file.
type Part struct {
	io.Reader

	// Stat is of the time when it was opened.
	Stat *agentv1.FileStat
	file *os.File
}

// Close lets go of the file.
func (p *Part) Close() error { return p.file.Close() }

func newPart(f *os.File, offset, limit int64) (*Part, error) {
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	left := max(0, st.Size-offset)
	if st.Size == 0 {
		left = maxSizeless
	}
	if limit > 0 {
		left = min(left, limit)
	}
	return &Part{
		// ReadAt, as a file of the kernel may not seek.
		Reader: io.NewSectionReader(f, offset, left), file: f,
		Stat: &agentv1.FileStat{
			Size: uint64(st.Size), Mode: st.Mode & modeBits, Uid: st.Uid, Gid: st.Gid,
			ModifiedUnixNano: st.Mtim.Nano(),
		},
	}, nil
}
