// SPDX-License-Identifier: Apache-2.0

package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/renameio/v2"

	"github.com/vmlet/vmlet/pkg/vm"
)

// recordVersion is what this code writes. A record of a later version is not touched.
const recordVersion = 1

// record is what a file in records/ says about one disk. Values are immutable: whoever
// changes one copies it.
type record struct {
	Version int           `json:"version"`
	ID      string        `json:"id"`
	Format  vm.DiskFormat `json:"format"`
	// Bytes is the length of the file, ModTime when it was last written to.
	Bytes    int64     `json:"bytes"`
	ModTime  time.Time `json:"modTime"`
	Virtual  int64     `json:"virtualSize"`
	PulledAt time.Time `json:"pulledAt"`
	// Tags says since when a tag is this image's. Of two images that claim one tag, the
	// later has it: a crash may come between the two records that a move of a tag changes.
	Tags    map[string]time.Time `json:"tags,omitempty"`
	Digests []string             `json:"digests,omitempty"`
	// Manifests are the digests that registries know this disk by on this architecture:
	// of indexes and of manifests. Contents are the layers it was made of, see plan.key.
	Manifests []string `json:"manifests,omitempty"`
	Contents  []string `json:"contents,omitempty"`

	// allocated is what the file takes on its file system, in bytes, as last seen.
	allocated int64
}

// origin is how an image was asked for and where it came from.
type origin struct {
	name      reference
	digest    string // of the manifest that the name stands for, "" for an import
	manifests []string
	content   string
}

// with is the record with one more origin.
func (r record) with(o origin, now time.Time) record {
	r.Tags = maps.Clone(r.Tags)
	if r.Tags == nil {
		r.Tags = map[string]time.Time{}
	}
	if _, has := r.Tags[o.name.String()]; o.name.tag != "" && !has {
		r.Tags[o.name.String()] = now
	}
	if o.digest != "" {
		r.Digests = adding(r.Digests, reference{repo: o.name.repo, digest: o.digest}.String())
	}
	r.Manifests = adding(r.Manifests, o.manifests...)
	if o.content != "" {
		r.Contents = adding(r.Contents, o.content)
	}
	return r
}

// has tells whether with would change nothing.
func (r record) has(o origin) bool {
	_, tagged := r.Tags[o.name.String()]
	return (tagged || o.name.tag == "") &&
		(o.digest == "" || slices.Contains(r.Digests, reference{repo: o.name.repo, digest: o.digest}.String())) &&
		len(adding(r.Manifests, o.manifests...)) == len(r.Manifests) &&
		(o.content == "" || slices.Contains(r.Contents, o.content))
}

func adding(list []string, more ...string) []string {
	list = slices.Clone(list)
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// withoutTag is the record less a tag that has gone to another image.
func (r record) withoutTag(tag string) record {
	r.Tags = maps.Clone(r.Tags)
	delete(r.Tags, tag)
	return r
}

// restored is the record of an image whose disk was lost and has been fetched again.
func (r record) restored(fresh record) record {
	r.ModTime, r.allocated = fresh.ModTime, fresh.allocated
	return r
}

func (r record) image(l layout) vm.Image {
	return vm.Image{
		ID: r.ID, Path: l.blob(r.ID), Format: r.Format,
		Tags: slices.Sorted(maps.Keys(r.Tags)), Digests: r.Digests,
		Size: r.allocated, VirtualSize: r.Virtual, PulledAt: r.PulledAt,
	}
}

// write puts the record on stable storage, whole or not at all.
func (l layout) write(r record) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("record of image %s: %w", r.ID, err)
	}
	path := l.record(r.ID)
	if err := renameio.WriteFile(path, append(b, '\n'), recordMode, renameio.WithTempDir(l.records()), renameio.WithStaticPermissions(recordMode)); err != nil {
		return fmt.Errorf("record of image %s: %w", r.ID, storageError(err))
	}
	return syncFolder(l.records())
}

// read returns the record of an image. FailedPrecondition: a later version of vmlet wrote
// it. DataLoss: it is not a record.
func (l layout) read(id string) (record, error) {
	b, err := os.ReadFile(l.record(id))
	if err != nil {
		return record{}, err
	}
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return record{}, fmt.Errorf("it is no JSON (%w): %w", err, errdefs.ErrDataLoss)
	}
	switch {
	case r.Version > recordVersion:
		return record{}, fmt.Errorf("it has version %d, this vmlet knows %d: %w", r.Version, recordVersion, errdefs.ErrFailedPrecondition)
	case r.Version != recordVersion || r.ID != id || r.Bytes <= 0 || r.Virtual <= 0 || (r.Format != vm.FormatQCOW2 && r.Format != vm.FormatRaw):
		return record{}, fmt.Errorf("what it says cannot be: %w", errdefs.ErrDataLoss)
	}
	return r, nil
}

// removeIfThere removes a file that may be gone already.
func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// syncFolder makes the names in a folder durable.
func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}
