// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// ioctls of linux/fs.h.
const (
	fiFreeze = 0xc0045877
	fiThaw   = 0xc0045878
)

// maxFrozen bounds how long file systems may stay frozen.
const maxFrozen = 5 * time.Minute

// Freezer freezes file systems, and sees to it that they thaw. While they are frozen the
// agent writes to none of them. For concurrent use.
type Freezer struct {
	mounts func() ([]*mountinfo.Info, error)
	// note is a file in memory that names what is frozen, for the agent after this one.
	note string
	log  func(error)

	mu     sync.Mutex
	frozen []*os.File    // the mount points, open: no name has to be looked up to thaw them
	thawed chan struct{} // closed when they thaw
	// ioctl is the kernel's.
	ioctl func(f *os.File, request uint) error
}

// NewFreezer returns a Freezer, and thaws what an agent before has left frozen. note is a
// path on a file system in memory.
func NewFreezer(m *Machine, note string, log func(error)) (*Freezer, error) {
	f := &Freezer{mounts: m.dataMounts, note: note, log: log, ioctl: ioctl}
	if err := f.thawLeft(); err != nil {
		return nil, err
	}
	return f, nil
}

func ioctl(f *os.File, request uint) error {
	return unix.IoctlSetInt(int(f.Fd()), request, 0)
}

// Pretend has Freeze and Thaw take these folders for all file systems and leave the kernel alone: for tests on a host that is
// not to stand still.
func (f *Freezer) Pretend(points ...string) {
	f.mounts = func() ([]*mountinfo.Info, error) {
		var all []*mountinfo.Info
		for _, point := range points {
			all = append(all, &mountinfo.Info{Mountpoint: point})
		}
		return all, nil
	}
	f.ioctl = func(*os.File, uint) error { return nil }
}

// Freeze freezes the file systems that hold data until Thaw is called or lost is closed, for
// at most timeout, and returns their mount points. FailedPrecondition while they are frozen.
func (f *Freezer) Freeze(timeout time.Duration, lost <-chan struct{}) ([]string, error) {
	if timeout <= 0 || timeout > maxFrozen {
		return nil, fmt.Errorf("freeze for %v, at most %v: %w", timeout, maxFrozen, errdefs.ErrInvalidArgument)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.frozen) > 0 {
		return nil, fmt.Errorf("file systems are frozen already: %w", errdefs.ErrFailedPrecondition)
	}
	mounts, err := f.mounts()
	if err != nil {
		return nil, err
	}
	var points []string
	for _, m := range mounts {
		points = append(points, m.Mountpoint)
	}
	if err := os.WriteFile(f.note, []byte(strings.Join(points, "\n")), 0o600); err != nil {
		return nil, fmt.Errorf("note what is to thaw: %w", err)
	}
	// What was mounted last may lie in a file of what was mounted before.
	slices.Reverse(points)
	points, err = f.freezeAll(points)
	if err != nil {
		_, thawErr := f.thaw()
		return nil, errors.Join(err, thawErr)
	}
	f.thawed = make(chan struct{})
	go f.guard(f.thawed, timeout, lost)
	return points, nil
}

// guard thaws what was frozen if nobody else does.
func (f *Freezer) guard(thawed chan struct{}, timeout time.Duration, lost <-chan struct{}) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-thawed:
		return
	case <-timer.C:
	case <-lost:
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.thawed != thawed {
		return // it has thawed, and something else is frozen
	}
	if _, err := f.thaw(); err != nil {
		f.log(err)
	}
}

// freezeAll freezes what can be frozen, and returns it.
func (f *Freezer) freezeAll(points []string) ([]string, error) {
	var done []string
	for _, point := range points {
		dir, err := os.Open(point)
		if err != nil {
			continue // hidden below another mount
		}
		err = f.ioctl(dir, fiFreeze)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EBUSY) {
			_ = dir.Close() //nolint:errcheck // cannot be frozen, or somebody else has
			continue
		}
		if err != nil {
			return done, errors.Join(fmt.Errorf("freeze %s: %w", point, err), dir.Close())
		}
		f.frozen, done = append(f.frozen, dir), append(done, point)
	}
	return done, nil
}

// Thaw thaws what is frozen, and returns it. Without anything it does nothing.
func (f *Freezer) Thaw() ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.thaw()
}

func (f *Freezer) thaw() ([]string, error) {
	if f.thawed != nil {
		close(f.thawed)
		f.thawed = nil
	}
	var points []string
	var failed error
	for _, dir := range slices.Backward(f.frozen) {
		// EINVAL: somebody else has thawed it.
		if err := f.ioctl(dir, fiThaw); err != nil && !errors.Is(err, unix.EINVAL) {
			failed = errors.Join(failed, fmt.Errorf("thaw %s: %w", dir.Name(), err))
		}
		points = append(points, dir.Name())
		_ = dir.Close() //nolint:errcheck // read only
	}
	f.frozen = nil
	if err := os.Remove(f.note); err != nil && !errors.Is(err, os.ErrNotExist) {
		failed = errors.Join(failed, err)
	}
	return points, failed
}

// thawLeft thaws what the note names.
func (f *Freezer) thawLeft() error {
	b, err := os.ReadFile(f.note)
	if errors.Is(err, os.ErrNotExist) {
		return os.MkdirAll(filepath.Dir(f.note), 0o700)
	}
	if err != nil {
		return err
	}
	for point := range strings.SplitSeq(string(b), "\n") {
		if dir, err := os.Open(point); err == nil {
			f.frozen = append(f.frozen, dir)
		}
	}
	_, err = f.Thaw()
	return err
}
