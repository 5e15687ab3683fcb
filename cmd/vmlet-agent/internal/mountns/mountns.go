// SPDX-License-Identifier: Apache-2.0

// Package mountns keeps the mount namespaces of the guest's containers by their names. The
// processes of one container share one, in which it has its own mounts, masked paths and
// perhaps a read-only root; the guest itself sees none of it.
package mountns

import (
	"fmt"
	"os"
	"sync"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/thread"
)

const (
	// maxNamespaces bounds what a host can make us hold; a VM has one container at a time.
	maxNamespaces = 32
	maxName       = 256
)

// Set is the namespaces that there are. Each lives as long as the agent, which holds it open,
// or a process in it. For concurrent use.
type Set struct {
	mu    sync.Mutex
	named map[string]*namespace
}

type namespace struct {
	file *os.File
	// guests are the IDs of the mounts that came from the guest: the others are the container's.
	guests     map[int]bool
	restrict   sync.Mutex
	restricted bool
}

// NewSet returns a set with nothing but the guest's own namespace, "".
func NewSet() *Set { return &Set{named: map[string]*namespace{}} }

// Do runs f on a thread of its own in the namespace of that name, with / as the working
// directory; a namespace that is not there yet is made as a copy of the guest's. What the
// guest mounts later appears in it, not the reverse. "" is the guest's own namespace.
func (s *Set) Do(name string, f func() error) error {
	return thread.Do(func() error {
		if name != "" {
			if _, err := s.enter(name); err != nil {
				return err
			}
		}
		return f()
	})
}

// DoRestricted is Do in a namespace that has these restrictions: the first call for a name
// makes them, and later ones leave them as they are.
func (s *Set) DoRestricted(name string, r Restrictions, f func() error) error {
	if name == "" {
		if !r.none() {
			return fmt.Errorf("a read-only root, masked and read-only paths need a namespace: %w", os.ErrInvalid)
		}
		return s.Do(name, f)
	}
	return thread.Do(func() error {
		n, err := s.enter(name)
		if err != nil {
			return err
		}
		if err := n.restrictOnce(r); err != nil {
			return err
		}
		return f()
	})
}

// enter moves the calling thread into the namespace, and makes that if need be.
func (s *Set) enter(name string) (*namespace, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.named[name]; n != nil {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNS); err != nil {
			return nil, fmt.Errorf("enter mount namespace %q: %w", name, err)
		}
		return n, nil
	}
	if len(name) > maxName || len(s.named) >= maxNamespaces {
		return nil, fmt.Errorf("mount namespace %.64q: there are %d already, or its name is too long: %w", name, len(s.named), os.ErrInvalid)
	}
	n, err := create()
	if err != nil {
		return nil, fmt.Errorf("make mount namespace %q: %w", name, err)
	}
	s.named[name] = n
	return n, nil
}

// create gives the calling thread a namespace of its own.
func create() (*namespace, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return nil, fmt.Errorf("keep mounts from the guest: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return nil, err
	}
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, err
	}
	n := &namespace{guests: make(map[int]bool, len(mounts))}
	for _, m := range mounts {
		n.guests[m.ID] = true
	}
	n.file, err = os.Open("/proc/thread-self/ns/mnt")
	return n, err
}
