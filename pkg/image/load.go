// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
)

// loader brings a store from what is on disk to a state that a clean stop could have left.
type loader struct {
	store *Store
	found []string
}

func (l *loader) say(format string, args ...any) {
	l.found = append(l.found, fmt.Sprintf(format, args...))
}

func (l *loader) load(ctx context.Context) error {
	if err := l.removeParts(); err != nil {
		return err
	}
	records, err := l.records(ctx)
	if err != nil {
		return err
	}
	c, changed := newCatalog(records)
	for _, id := range changed {
		l.say("image %s lost a tag that another image has got since", id)
		if err := l.store.layout.write(c.records[id]); err != nil {
			return err
		}
	}
	l.store.catalog.Store(c)
	return l.removeOrphans(c)
}

func (l *loader) removeParts() error {
	parts := l.store.layout.parts()
	entries, err := os.ReadDir(parts)
	if err != nil {
		return err
	}
	for _, e := range entries {
		l.say("removed %s, the rest of a pull that did not finish", e.Name())
		if err := os.RemoveAll(filepath.Join(parts, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// records reads all records, and removes those that cannot be believed.
func (l *loader) records(ctx context.Context) ([]record, error) {
	layout := l.store.layout
	entries, err := os.ReadDir(layout.records())
	if err != nil {
		return nil, err
	}
	var records []record
	for _, e := range entries {
		path := filepath.Join(layout.records(), e.Name())
		id, ok := idOfRecord(e.Name())
		if !ok {
			l.say("removed %s, which is no record of an image", path)
			if err := os.RemoveAll(path); err != nil {
				return nil, err
			}
			continue
		}
		rec, err := l.record(ctx, id)
		switch {
		case err == nil:
			records = append(records, rec)
		case errdefs.IsDataLoss(err) || errors.Is(err, fs.ErrNotExist):
			l.say("dropped image %s: %v", id, err)
			if err := os.RemoveAll(path); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("record of image %s: %w", id, err)
		}
	}
	return records, nil
}

// record reads one record and checks the disk that it is about. DataLoss: one of the two
// is not what it was.
func (l *loader) record(ctx context.Context, id string) (record, error) {
	rec, err := l.store.layout.read(id)
	if err != nil {
		return record{}, err
	}
	path := l.store.layout.blob(id)
	info, err := os.Lstat(path)
	if err != nil {
		return record{}, err
	}
	if !info.Mode().IsRegular() || info.Size() != rec.Bytes {
		return record{}, fmt.Errorf("its disk has %d bytes and had %d: %w", info.Size(), rec.Bytes, errdefs.ErrDataLoss)
	}
	rec.allocated = allocated(info)
	if !info.ModTime().Equal(rec.ModTime) {
		if err := checkDigest(ctx, path, id); err != nil {
			return record{}, err
		}
		l.say("image %s: its disk was written to or copied, but is still the same", id)
		rec.ModTime = info.ModTime()
		if err := l.store.layout.write(rec); err != nil {
			return record{}, err
		}
	}
	return rec, l.protect(path, info)
}

// protect gives a disk back what keeps it from being changed.
func (l *loader) protect(path string, info fs.FileInfo) error {
	if info.Mode().Perm() != blobMode {
		l.say("%s had the mode %v", path, info.Mode().Perm())
		if err := setImmutable(path, false); err != nil {
			return err
		}
		if err := os.Chmod(path, blobMode); err != nil {
			return err
		}
	}
	if !l.store.cfg.Immutable {
		return nil
	}
	return setImmutable(path, true)
}

// removeOrphans removes disks without a record.
func (l *loader) removeOrphans(c *catalog) error {
	blobs := l.store.layout.blobs()
	entries, err := os.ReadDir(blobs)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if id, ok := idOfBlob(e.Name()); ok {
			if _, known := c.records[id]; known {
				continue
			}
		}
		l.say("removed the disk %s, which no image has", e.Name())
		if err := removeBlob(filepath.Join(blobs, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// checkDigest hashes a file. DataLoss: it is not the image's.
func checkDigest(ctx context.Context, path, id string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum, buf := sha256.New(), make([]byte, aheadChunk)
	for {
		n, err := f.Read(buf)
		sum.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err = errors.Join(err, context.Cause(ctx)); err != nil {
			return err
		}
	}
	if got := idPrefix + hex.EncodeToString(sum.Sum(nil)); got != id {
		return fmt.Errorf("its disk has been changed, its digest is %s: %w", got, errdefs.ErrDataLoss)
	}
	return nil
}
