// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/vmlet/vmlet/pkg/vm"
)

// writeKey is the one key of the lock writing.
const writeKey = "the image store"

// commit makes a finished part the disk of an image and gives it its origin's names. A disk
// that is stored already only gets the names. On an error the part is gone.
func (s *Store) commit(ctx context.Context, p *part, o origin) (img vm.Image, err error) {
	defer func() { err = errors.Join(err, p.discard()) }()
	rec, err := p.finish()
	if err != nil {
		return vm.Image{}, err
	}
	unlock, err := s.writing.Lock(ctx, writeKey)
	if err != nil {
		return vm.Image{}, err
	}
	defer unlock()
	path := s.layout.blob(rec.ID)
	rec.PulledAt = s.now()
	if have, ok := s.catalog.Load().records[rec.ID]; ok {
		if s.intact(have) {
			return s.put(have, o)
		}
		rec = have.restored(rec)
		if err := removeBlob(path); err != nil {
			return vm.Image{}, fmt.Errorf("image %s: %w", rec.ID, err)
		}
	}
	if err := s.place(p, path); err != nil {
		return vm.Image{}, fmt.Errorf("image %s: %w", rec.ID, storageError(err))
	}
	if img, err = s.put(rec, o); err != nil {
		return vm.Image{}, errors.Join(err, removeBlob(path))
	}
	return img, nil
}

// place moves a part to where it stays.
func (s *Store) place(p *part, path string) error {
	if err := os.Rename(p.file.Name(), path); err != nil {
		return err
	}
	if err := syncFolder(s.layout.blobs()); err != nil {
		return errors.Join(err, removeBlob(path))
	}
	if !s.cfg.Immutable {
		return nil
	}
	if err := setImmutable(path, true); err != nil {
		return errors.Join(err, removeBlob(path))
	}
	return nil
}

// intact tells whether the disk of an image looks as it should. One that somebody removed
// is fetched again by the next pull.
func (s *Store) intact(rec record) bool {
	info, err := os.Lstat(s.layout.blob(rec.ID))
	return err == nil && info.Mode().IsRegular() && info.Size() == rec.Bytes && info.ModTime().Equal(rec.ModTime)
}

// adopt gives an image that is stored already another origin. ok is false if there is none
// (any more).
func (s *Store) adopt(ctx context.Context, o origin, find func(*catalog) (id string, ok bool)) (img vm.Image, ok bool, err error) {
	unlock, err := s.writing.Lock(ctx, writeKey)
	if err != nil {
		return vm.Image{}, false, err
	}
	defer unlock()
	c := s.catalog.Load()
	id, ok := find(c)
	if !ok || !s.intact(c.records[id]) {
		return vm.Image{}, false, nil
	}
	img, err = s.put(c.records[id], o)
	return img, err == nil, err
}

// put records an image with one more origin. A tag that another image had is this one's
// from now on. The caller holds writing.
func (s *Store) put(rec record, o origin) (vm.Image, error) {
	old := s.catalog.Load()
	if known, ok := old.records[rec.ID]; ok && known.ModTime.Equal(rec.ModTime) && rec.has(o) {
		return rec.image(s.layout), nil
	}
	now := s.now()
	if holder, ok := old.names[o.name.String()]; ok && o.name.tag != "" {
		// Later than the holder's claim, even if the clock went back.
		if since := old.records[holder].Tags[o.name.String()]; !now.After(since) {
			now = since.Add(1)
		}
	}
	rec = rec.with(o, now)
	next, changed := old.with(rec)
	for i, id := range append([]string{rec.ID}, changed...) {
		if err := s.layout.write(next.records[id]); err != nil {
			return vm.Image{}, errors.Join(err, s.restore(old, append([]string{rec.ID}, changed[:i]...)))
		}
	}
	s.catalog.Store(next)
	s.usage.forget()
	return rec.image(s.layout), nil
}

// restore brings records on disk back to what a catalog has.
func (s *Store) restore(c *catalog, ids []string) error {
	var errs []error
	for _, id := range ids {
		if rec, ok := c.records[id]; ok {
			errs = append(errs, s.layout.write(rec))
		} else {
			errs = append(errs, s.removeRecord(id))
		}
	}
	return errors.Join(errs...)
}
