// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"github.com/vmlet/vmlet/pkg/vm"
)

// usageAge is how old an answer of Usage may be. What changes meanwhile are the parts of
// running pulls: images that come or go make it new.
const usageAge = 10 * time.Second

type usageCache struct {
	mu    sync.Mutex
	last  vm.FSUsage
	valid bool
}

func (c *usageCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.valid = false
}

// Usage is what the store takes on its file system, pulls under way included, as of at
// most ten seconds ago. MountPoint is the store's folder, as CRI's clients expect it.
func (s *Store) Usage(ctx context.Context) (vm.FSUsage, error) {
	c := &s.usage
	c.mu.Lock()
	defer c.mu.Unlock()
	now := s.now()
	if c.valid && now.Sub(c.last.At) < usageAge {
		return c.last, nil
	}
	u := vm.FSUsage{At: now, MountPoint: s.cfg.Dir}
	err := filepath.WalkDir(s.cfg.Dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil {
			var info fs.FileInfo
			if info, err = e.Info(); err == nil {
				u.UsedInodes++
				u.UsedBytes += uint64(allocated(info))
			}
		}
		// Parts and disks come and go beneath the walk: what is gone takes nothing.
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return errors.Join(err, context.Cause(ctx))
	})
	if err != nil {
		return vm.FSUsage{}, err
	}
	c.last, c.valid = u, true
	return u, nil
}
