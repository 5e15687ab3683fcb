// SPDX-License-Identifier: Apache-2.0

package image

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// catalog is all that the store knows at one moment, with the ways to look it up. It is
// never changed: readers use it without a lock while a writer makes the next one.
type catalog struct {
	records   map[string]record
	order     []string          // IDs, oldest first
	names     map[string]string // tags and digests, in full, to IDs
	manifests map[string]string // digests of manifests to IDs
	contents  map[string]string // what was made of what layers
}

// newCatalog indexes records. A tag that several claim goes to the one that got it last;
// the others lose it: their IDs are returned.
func newCatalog(records []record) (c *catalog, changed []string) {
	c = &catalog{
		records: map[string]record{}, names: map[string]string{},
		manifests: map[string]string{}, contents: map[string]string{},
	}
	for _, r := range records {
		c.records[r.ID] = r
	}
	for _, r := range records {
		for tag, since := range r.Tags {
			holder, taken := c.names[tag]
			switch {
			case !taken:
				c.names[tag] = r.ID
				continue
			case since.After(c.records[holder].Tags[tag]):
				c.names[tag] = r.ID
			default:
				holder = r.ID
			}
			c.records[holder] = c.records[holder].withoutTag(tag)
			changed = append(changed, holder)
		}
	}
	for id, r := range c.records {
		c.order = append(c.order, id)
		for _, name := range r.Digests {
			c.names[name] = id
		}
		for _, digest := range r.Manifests {
			c.manifests[digest] = id
		}
		for _, key := range r.Contents {
			c.contents[key] = id
		}
	}
	slices.SortFunc(c.order, func(a, b string) int {
		return cmp.Or(c.records[a].PulledAt.Compare(c.records[b].PulledAt), cmp.Compare(a, b))
	})
	return c, changed
}

// with is the next catalog, in which rec is new or replaces what was known of its ID.
func (c *catalog) with(rec record) (next *catalog, changed []string) {
	records := make([]record, 0, len(c.records)+1)
	for id, r := range c.records {
		if id != rec.ID {
			records = append(records, r)
		}
	}
	return newCatalog(append(records, rec))
}

func (c *catalog) without(id string) *catalog {
	records := make([]record, 0, len(c.records))
	for _, r := range c.records {
		if r.ID != id {
			records = append(records, r)
		}
	}
	next, _ := newCatalog(records)
	return next
}

// find looks an image up by ID, by name, by what an alias makes of the name, and by a
// prefix of the ID, in this order.
func (c *catalog) find(ref string, as aliases) (record, error) {
	prefix, exact, mayBeID := idQuery(ref)
	if rec, ok := c.records[prefix]; mayBeID && ok {
		return rec, nil
	}
	if !exact || !mayBeID {
		rec, found, err := c.findName(ref, as)
		if err != nil || found {
			return rec, err
		}
	}
	if !mayBeID {
		return record{}, fmt.Errorf("image %s: %w", ref, errdefs.ErrNotFound)
	}
	return c.findPrefix(ref, prefix)
}

func (c *catalog) findName(ref string, as aliases) (rec record, found bool, err error) {
	name, err := parseReference(ref)
	if err != nil {
		return record{}, false, err
	}
	source, err := as.source(name)
	if err != nil {
		return record{}, false, err
	}
	for _, n := range []reference{name, source} {
		// An alias that drops the digest that was asked for cannot stand for it here.
		if id, ok := c.names[n.String()]; ok && (name.digest == "" || n.digest == name.digest) {
			return c.records[id], true, nil
		}
	}
	return record{}, false, nil
}

func (c *catalog) findPrefix(ref, prefix string) (record, error) {
	var found []record
	for id, rec := range c.records {
		if strings.HasPrefix(id, prefix) {
			found = append(found, rec)
		}
	}
	switch len(found) {
	case 0:
		return record{}, fmt.Errorf("image %s: %w", ref, errdefs.ErrNotFound)
	case 1:
		return found[0], nil
	default:
		return record{}, fmt.Errorf("%d image IDs begin with %s: %w", len(found), ref, errdefs.ErrInvalidArgument)
	}
}
