// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

var _ lifecycle.Images = (*Images)(nil)

// Images is a lifecycle.Images in memory, beside a registry in memory that Publish fills.
// Failures and delays are scripted by Script; calls are listed with the reference.
type Images struct {
	Script

	mu        sync.Mutex
	published map[string]string
	stored    map[string]vm.Image
	order     []string
	now       func() time.Time
}

// NewImages returns an empty store and an empty registry.
func NewImages() *Images {
	return &Images{published: map[string]string{}, stored: map[string]vm.Image{}, now: time.Now}
}

// Publish makes a reference pullable. Equal content is one image, whatever its names.
func (i *Images) Publish(ref, content string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.published[fullName(ref)] = content
}

// Add stores an image under a name, as if it had been pulled before. The name is also its
// content: two names are two images.
func (i *Images) Add(ref string) vm.Image {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.put(fullName(ref), fullName(ref), true)
}

// Resolve implements lifecycle.Images.
func (i *Images) Resolve(ctx context.Context, ref string) (vm.Image, error) {
	if err := i.enter(ctx, "Resolve", ref); err != nil {
		return vm.Image{}, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.find(ref)
}

// List implements lifecycle.Images.
func (i *Images) List(ctx context.Context) ([]vm.Image, error) {
	if err := i.enter(ctx, "List"); err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	var all []vm.Image
	for _, id := range i.order {
		all = append(all, clone(i.stored[id]))
	}
	return all, nil
}

// Pull implements lifecycle.Images.
func (i *Images) Pull(ctx context.Context, ref string, _ vm.RegistryAuth, progress func(vm.PullProgress)) (vm.Image, error) {
	if err := i.enter(ctx, "Pull", ref); err != nil {
		return vm.Image{}, err
	}
	if err := checkReference(ref); err != nil {
		return vm.Image{}, err
	}
	i.mu.Lock()
	content, ok := i.published[fullName(ref)]
	if !ok {
		i.mu.Unlock()
		return vm.Image{}, fmt.Errorf("pull %s: the registry does not have it: %w", ref, errdefs.ErrNotFound)
	}
	img := i.put(fullName(ref), content, true)
	i.mu.Unlock()
	report(progress, int64(len(content)))
	return img, nil
}

// Import implements lifecycle.Images.
func (i *Images) Import(ctx context.Context, ref string, r io.Reader, progress func(vm.PullProgress)) (vm.Image, error) {
	if err := i.enter(ctx, "Import", ref); err != nil {
		return vm.Image{}, err
	}
	if err := checkReference(ref); err != nil {
		return vm.Image{}, err
	}
	if strings.Contains(ref, "@") {
		return vm.Image{}, fmt.Errorf("import %s: the name holds a digest: %w", ref, errdefs.ErrInvalidArgument)
	}
	content, err := io.ReadAll(r)
	if err != nil {
		return vm.Image{}, fmt.Errorf("import %s: %w", ref, err)
	}
	i.mu.Lock()
	img := i.put(fullName(ref), string(content), false)
	i.mu.Unlock()
	report(progress, int64(len(content)))
	return img, nil
}

// Remove implements lifecycle.Images.
func (i *Images) Remove(ctx context.Context, ref string) error {
	if err := i.enter(ctx, "Remove", ref); err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	img, err := i.find(ref)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	delete(i.stored, img.ID)
	i.order = slices.DeleteFunc(i.order, func(id string) bool { return id == img.ID })
	return nil
}

// Usage implements lifecycle.Images.
func (i *Images) Usage(ctx context.Context) (vm.FSUsage, error) {
	if err := i.enter(ctx, "Usage"); err != nil {
		return vm.FSUsage{}, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	u := vm.FSUsage{At: i.now(), MountPoint: "/images"}
	for _, img := range i.stored {
		u.UsedBytes += uint64(img.Size)
		u.UsedInodes++
	}
	return u, nil
}

// put stores content under a full name, which leaves the image that had it before. What
// comes from a registry has a digest there.
func (i *Images) put(full, content string, fromRegistry bool) vm.Image {
	sum := sha256.Sum256([]byte(content))
	id := "sha256:" + hex.EncodeToString(sum[:])
	repo, tag := splitName(full)
	digest := repo + "@" + id

	for _, other := range i.order {
		img := clone(i.stored[other])
		img.Tags = slices.DeleteFunc(img.Tags, func(t string) bool { return t == full })
		i.stored[other] = img
	}
	img, ok := i.stored[id]
	if !ok {
		img = vm.Image{
			ID: id, Path: "/images/" + id[len("sha256:"):], Format: vm.FormatQCOW2,
			Size: int64(len(content)), VirtualSize: 64 * vm.MiB, PulledAt: i.now(),
		}
		i.order = append(i.order, id)
	}
	img = clone(img)
	if tag != "" && !slices.Contains(img.Tags, full) {
		img.Tags = append(img.Tags, full)
	}
	if fromRegistry && !slices.Contains(img.Digests, digest) {
		img.Digests = append(img.Digests, digest)
	}
	i.stored[id] = img
	return clone(img)
}

func (i *Images) find(ref string) (vm.Image, error) {
	digits, isID := strings.CutPrefix(ref, "sha256:")
	if !isID {
		if err := checkReference(ref); err != nil {
			return vm.Image{}, err
		}
	}
	full := fullName(ref)
	var byPrefix []vm.Image
	for _, id := range i.order {
		img := i.stored[id]
		if slices.Contains(img.Tags, full) || slices.Contains(img.Digests, full) {
			return clone(img), nil
		}
		if (isID || len(digits) >= minIDPrefix) && strings.HasPrefix(id, "sha256:"+digits) {
			byPrefix = append(byPrefix, img)
		}
	}
	switch len(byPrefix) {
	case 0:
		return vm.Image{}, fmt.Errorf("image %s: %w", ref, errdefs.ErrNotFound)
	case 1:
		return clone(byPrefix[0]), nil
	default:
		return vm.Image{}, fmt.Errorf("%d image IDs begin with %s: %w", len(byPrefix), ref, errdefs.ErrInvalidArgument)
	}
}

// minIDPrefix is how many digits of an ID without "sha256:" are not taken for a name.
const minIDPrefix = 12

func checkReference(ref string) error {
	if _, err := name.ParseReference(ref, name.WeakValidation); err != nil {
		return fmt.Errorf("%q is not a reference: %w", ref, errdefs.ErrInvalidArgument)
	}
	return nil
}

// fullName adds what docker's references leave out: the tag.
func fullName(ref string) string {
	if _, tag := splitName(ref); tag == "" && !strings.Contains(ref, "@") {
		return ref + ":latest"
	}
	return ref
}

// splitName cuts the tag off a reference; a reference with a digest has none.
func splitName(ref string) (repo, tag string) {
	if repo, _, ok := strings.Cut(ref, "@"); ok {
		return repo, ""
	}
	if i := strings.LastIndexByte(ref, ':'); i > strings.LastIndexByte(ref, '/') {
		return ref[:i], ref[i+1:]
	}
	return ref, ""
}

func clone(img vm.Image) vm.Image {
	img.Tags = slices.Clone(img.Tags)
	img.Digests = slices.Clone(img.Digests)
	return img
}

func report(progress func(vm.PullProgress), total int64) {
	if progress == nil {
		return
	}
	progress(vm.PullProgress{Phase: "downloading", Total: total})
	progress(vm.PullProgress{Phase: "done", Done: total, Total: total})
}
