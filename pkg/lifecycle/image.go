// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// PullImage fetches an image, or finds that it is there and up to date.
func (s *Service) PullImage(ctx context.Context, ref string, auth vm.RegistryAuth, progress func(vm.PullProgress)) (image vm.Image, err error) {
	err = s.observed("image_pull", func() error {
		image, err = s.deps.Images.Pull(ctx, ref, auth, progress)
		return err
	})
	return image, err
}

// ImportImage stores a disk that the caller sends under a name.
func (s *Service) ImportImage(ctx context.Context, name string, r io.Reader, progress func(vm.PullProgress)) (image vm.Image, err error) {
	err = s.observed("image_import", func() error {
		image, err = s.deps.Images.Import(ctx, name, r, progress)
		return err
	})
	return image, err
}

// Image finds an image by ID or name; NotFound if it is not in the store.
func (s *Service) Image(ctx context.Context, ref string) (vm.Image, error) {
	image, err := s.deps.Images.Resolve(ctx, ref)
	image.Pinned = err == nil && s.isBase(image.ID)
	return image, err
}

// Images lists all images of the store.
func (s *Service) Images(ctx context.Context) ([]vm.Image, error) {
	images, err := s.deps.Images.List(ctx)
	for i := range images {
		images[i].Pinned = s.isBase(images[i].ID)
	}
	return images, err
}

// isBase reports whether a persistent disk is based on the image. Clients whose pods do not
// use an image any more would otherwise try to remove it, again and again.
func (s *Service) isBase(imageID string) bool {
	return slices.ContainsFunc(s.deps.Store.Disks.All(), func(d *vm.PersistentDisk) bool { return d.Disk.ImageID == imageID })
}

// ImageUsage is what the image store holds.
func (s *Service) ImageUsage(ctx context.Context) (vm.FSUsage, error) {
	return s.deps.Images.Usage(ctx)
}

// RemoveImage removes an image with all its names. An image that is the base of a disk
// is FailedPrecondition; an unknown one is a success: CRI's RemoveImage "is idempotent,
// and must not return an error if the image has already been removed".
func (s *Service) RemoveImage(ctx context.Context, ref string) error {
	return s.observed("image_remove", func() error {
		s.imageUse.Lock()
		defer s.imageUse.Unlock()
		image, err := s.deps.Images.Resolve(ctx, ref)
		if errors.Is(err, errdefs.ErrNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("remove image %q: %w", ref, err)
		}
		if user := s.imageUser(image.ID); user != "" {
			return fmt.Errorf("remove image %q: %s uses it; remove that first: %w", ref, user, errdefs.ErrFailedPrecondition)
		}
		return s.deps.Images.Remove(ctx, image.ID)
	})
}

// imageUser names something that refers to the image, or is empty.
func (s *Service) imageUser(imageID string) string {
	for _, sb := range s.deps.Store.Sandboxes.List() {
		for _, d := range sb.Status.Disks {
			if d.ImageID == imageID {
				return fmt.Sprintf("the disk of container %q in sandbox %s (pod %s/%s)", d.Container, sb.ID, sb.Spec.Namespace, sb.Spec.Name)
			}
		}
		if slices.ContainsFunc(sb.Status.Layers, func(l vm.Layer) bool { return l.ImageID == imageID }) {
			return fmt.Sprintf("a snapshot of sandbox %s (pod %s/%s)", sb.ID, sb.Spec.Namespace, sb.Spec.Name)
		}
	}
	for _, d := range s.deps.Store.Disks.All() {
		if d.Disk.ImageID == imageID {
			return "the persistent disk " + d.Key.Name()
		}
	}
	for _, c := range s.deps.Store.Containers.List() {
		if c.Spec.ImageID == imageID && c.Status.Live() {
			return "container " + c.ID
		}
	}
	return ""
}
