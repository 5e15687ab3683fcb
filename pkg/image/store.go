// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/vmlet/vmlet/pkg/keylock"
	"github.com/vmlet/vmlet/pkg/vm"
)

// DefaultMaxDiskSize is Config.MaxDiskSize where that is 0, in bytes.
const DefaultMaxDiskSize = 2 << 40

// Config is what a store needs to know.
type Config struct {
	// Dir is the store's folder. QEMU's user must be able to walk to it.
	Dir string
	// Aliases are tried in order.
	Aliases []Alias
	// Insecure are registries (host, or host:port) that may be spoken to over plain HTTP;
	// those on this host always may.
	Insecure []string
	// MaxDiskSize bounds what a disk may have in bytes, in its file and as a guest sees
	// it: what an image says of itself makes us store no more.
	MaxDiskSize int64
	// Immutable sets the immutable flag on disks; see the package comment.
	Immutable bool
}

// Store is the image store. It is safe for concurrent use. One process may have it open.
type Store struct {
	cfg       Config
	layout    layout
	aliases   atomic.Pointer[aliases]
	transport http.RoundTripper
	closeIdle func()
	retry     retryPolicy
	arch      string
	now       func() time.Time

	catalog atomic.Pointer[catalog]
	// writing is the lock of all that changes the catalog or the folders behind it;
	// fetching, by plan.key, lets one of several pulls fetch what all of them want.
	writing  keylock.Locks
	fetching keylock.Locks
	flights  flights
	usage    usageCache
}

// Open opens the store in cfg.Dir, or makes it, and cleans up what a crash left there.
// found tells, in words for an operator, what was cleaned up or was not as it should be.
// The errors are InvalidArgument for a bad configuration, FailedPrecondition for a store
// that a later version has written to.
func Open(ctx context.Context, cfg Config) (s *Store, found []string, err error) {
	if cfg.MaxDiskSize == 0 {
		cfg.MaxDiskSize = DefaultMaxDiskSize
	}
	s = &Store{
		cfg: cfg, layout: layout(cfg.Dir),
		retry: defaultRetry, arch: runtime.GOARCH, now: time.Now,
	}
	if err := s.SetAliases(cfg.Aliases); err != nil {
		return nil, nil, err
	}
	if err := s.makeFolders(); err != nil {
		return nil, nil, fmt.Errorf("image store %s: %w", cfg.Dir, err)
	}
	l := loader{store: s}
	if err := l.load(ctx); err != nil {
		return nil, nil, fmt.Errorf("image store %s: %w", cfg.Dir, err)
	}
	s.transport, s.closeIdle = newTransport(cfg.Insecure, s.retry.stall)
	return s, l.found, nil
}

func (s *Store) makeFolders() error {
	for _, folder := range []struct {
		path string
		mode os.FileMode
	}{
		{string(s.layout), walkMode},
		{s.layout.blobRoot(), walkMode},
		{s.layout.blobs(), walkMode},
		{s.layout.records(), privateMode},
		{s.layout.parts(), privateMode},
	} {
		if err := os.MkdirAll(folder.path, folder.mode); err != nil {
			return err
		}
		if err := os.Chmod(folder.path, folder.mode); err != nil { // past the umask
			return err
		}
	}
	return nil
}

// Close ends the pulls that are under way and returns when they have cleaned up. Images
// stay readable.
func (s *Store) Close() {
	s.flights.close()
	s.closeIdle()
}

// Resolve finds an image by ID ("sha256:..."), by a unique prefix of it, or by name. It
// never touches the disk. NotFound if the store does not have it, InvalidArgument if ref is
// neither or means several images.
func (s *Store) Resolve(_ context.Context, ref string) (vm.Image, error) {
	rec, err := s.catalog.Load().find(ref, *s.aliases.Load())
	if err != nil {
		return vm.Image{}, err
	}
	return rec.image(s.layout), nil
}

// List returns all images, those pulled first first. It never touches the disk.
func (s *Store) List(context.Context) ([]vm.Image, error) {
	c := s.catalog.Load()
	images := make([]vm.Image, 0, len(c.order))
	for _, id := range c.order {
		images = append(images, c.records[id].image(s.layout))
	}
	return images, nil
}
