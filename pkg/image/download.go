// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/containerd/errdefs"
	oci "github.com/google/go-containerregistry/pkg/v1"
)

// download fetches what a plan says into a part, which on an error is gone.
func (s *Store) download(ctx context.Context, sess *session, p plan, m *meter) (got *part, err error) {
	if p.total > s.cfg.MaxDiskSize {
		return nil, refused("the image has layers of %d bytes, %d are allowed", p.total, s.cfg.MaxDiskSize)
	}
	find := diskFinder{open: func() (*part, error) { return s.newPart("") }}
	defer func() {
		if err != nil && got != nil {
			err = errors.Join(err, got.discard())
			got = nil
		}
	}()
	if p.disk != nil {
		if got, err = s.newPart(p.disk.format); err != nil {
			return nil, err
		}
		return got, sess.fetchDisk(ctx, p.layers[0], p.disk.packing, got, m)
	}
	for _, layer := range slices.Backward(p.layers) {
		err = sess.fetch(ctx, layer, m, func(packed io.Reader) error { return unpacked(packed, sniffed, find.layer) })
		if got = find.found; err != nil {
			return got, fmt.Errorf("layer %s: %w", layer.Digest, err)
		}
	}
	if got == nil {
		return nil, refused("there is no file in %s: this is a container image, not a VM image", diskFolder)
	}
	return got, nil
}

// fetchDisk fetches a layer that is the disk.
func (s *session) fetchDisk(ctx context.Context, layer oci.Descriptor, packing compression, to *part, m *meter) error {
	if packing == uncompressed && layer.Digest.Algorithm == "sha256" {
		to.trust(layer.Digest.String)
	}
	err := s.fetch(ctx, layer, m, func(packed io.Reader) error {
		return unpacked(packed, packing, func(r io.Reader) error {
			_, err := io.Copy(to, r)
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("layer %s: %w", layer.Digest, err)
	}
	return nil
}

// maxExplain is how many bytes of a layer that is of no use are fetched to say why.
const maxExplain = 8 << 20

// fetch has use read a layer as it is sent, while more of it is being received. When it
// returns nil the layer's digest was right.
func (s *session) fetch(ctx context.Context, layer oci.Descriptor, m *meter, use func(io.Reader) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	blob, err := s.blob(ctx, layer.Digest, layer.Size, m)
	if err != nil {
		return err
	}
	defer blob.Close()
	ahead := newReadAhead(blob, cancel)
	defer ahead.Close()

	used := use(ahead)
	if used != nil && !errdefs.IsFailedPrecondition(used) {
		return used
	}
	rest := io.Reader(ahead)
	if used != nil {
		// It may be of no use because it is not what the digest stands for, which would
		// be the better explanation; but a disk that was refused is not fetched for it.
		rest = io.LimitReader(ahead, maxExplain)
	}
	if _, err := io.Copy(io.Discard, rest); err != nil {
		return err
	}
	return used
}

// unpacked has use read what a packed stream unpacks to, while more of it is being
// unpacked.
func unpacked(packed io.Reader, c compression, use func(io.Reader) error) error {
	r, err := unpack(packed, c)
	if err != nil {
		return err
	}
	if c == uncompressed {
		return use(r)
	}
	ahead := newReadAhead(r, func() {})
	err = use(ahead)
	ahead.Close()
	return errors.Join(err, r.Close())
}
