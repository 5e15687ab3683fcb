// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
)

// Remove deletes the image that ref names, with all its names. It is idempotent. Whether
// disks have it as their base is the caller's to know.
func (s *Store) Remove(ctx context.Context, ref string) error {
	unlock, err := s.writing.Lock(ctx, writeKey)
	if err != nil {
		return fmt.Errorf("remove image %s: %w", ref, err)
	}
	defer unlock()
	c := s.catalog.Load()
	rec, err := c.find(ref, *s.aliases.Load())
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove image %s: %w", ref, err)
	}
	if err := s.removeRecord(rec.ID); err != nil {
		return fmt.Errorf("remove image %s: %w", ref, err)
	}
	// Known until it is gone, so that a removal that failed can be tried again.
	if err := removeBlob(s.layout.blob(rec.ID)); err != nil {
		return fmt.Errorf("remove image %s: %w", ref, err)
	}
	s.catalog.Store(c.without(rec.ID))
	s.usage.forget()
	return nil
}

func (s *Store) removeRecord(id string) error {
	if err := removeIfThere(s.layout.record(id)); err != nil {
		return err
	}
	return syncFolder(s.layout.records())
}

// removeBlob removes a disk, immutable or not, or what is in its place.
func removeBlob(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && info.Mode().IsRegular() {
		err = setImmutable(path, false)
	}
	return errors.Join(err, os.RemoveAll(path))
}
