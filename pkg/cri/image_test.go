// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

func imageFake() *fake {
	f := newFake()
	f.images = []vm.Image{
		{ID: "sha256:11", Tags: []string{"a/web:1", "b/web:1"}, Digests: []string{"a/web@sha256:99"}, Size: 1234},
		{ID: "sha256:22", Tags: []string{"a/db:1"}},
	}
	return f
}

func TestAnImageIsTheSameByEveryReference(t *testing.T) {
	s := newServer(t, imageFake())
	want := &runtimeapi.Image{
		Id: "sha256:11", RepoTags: []string{"a/web:1", "b/web:1"}, RepoDigests: []string{"a/web@sha256:99"}, Size: 1234,
		Spec: &runtimeapi.ImageSpec{Image: "sha256:11"},
	}
	for _, ref := range []string{"sha256:11", "a/web:1", "b/web:1", "a/web@sha256:99"} {
		got, err := s.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: ref}})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got.GetImage(), protocmp.Transform()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", ref, diff)
		}
		if got.GetInfo() != nil {
			t.Error("info was given without being asked for")
		}
		listed, err := s.ListImages(t.Context(), &runtimeapi.ListImagesRequest{Filter: &runtimeapi.ImageFilter{Image: &runtimeapi.ImageSpec{Image: ref}}})
		if err != nil || len(listed.GetImages()) != 1 || listed.GetImages()[0].GetId() != "sha256:11" {
			t.Errorf("listing %s: %v, %v", ref, listed.GetImages(), err)
		}
		pulled, err := s.PullImage(t.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: ref}})
		if err != nil || pulled.GetImageRef() != want.GetId() {
			t.Errorf("pulling %s: %q, %v; want the ID", ref, pulled.GetImageRef(), err)
		}
	}
}

// TestAPinnedImageIsTold: kubelet's garbage collection passes such images over.
func TestAPinnedImageIsTold(t *testing.T) {
	f := imageFake()
	f.images[1].Pinned = true
	s := newServer(t, f)
	listed, err := s.ListImages(t.Context(), &runtimeapi.ListImagesRequest{})
	if err != nil || len(listed.GetImages()) != 2 || listed.GetImages()[0].GetPinned() || !listed.GetImages()[1].GetPinned() {
		t.Errorf("listed %v, %v", listed.GetImages(), err)
	}
	got, err := s.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: "a/db:1"}})
	if err != nil || !got.GetImage().GetPinned() {
		t.Errorf("status %v, %v", got.GetImage(), err)
	}
}

func TestAnAbsentImageIsNoError(t *testing.T) {
	s := newServer(t, imageFake())
	absent := &runtimeapi.ImageSpec{Image: "nobody/knows:1"}
	got, err := s.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: absent, Verbose: true})
	if err != nil || got.GetImage() != nil {
		t.Errorf("status: %v, %v; want neither", got.GetImage(), err)
	}
	listed, err := s.ListImages(t.Context(), &runtimeapi.ListImagesRequest{Filter: &runtimeapi.ImageFilter{Image: absent}})
	if err != nil || len(listed.GetImages()) != 0 {
		t.Errorf("list: %v, %v; want neither", listed.GetImages(), err)
	}
}

func TestAllImagesAreListedWithoutAFilter(t *testing.T) {
	for _, filter := range []*runtimeapi.ImageFilter{nil, {}, {Image: &runtimeapi.ImageSpec{}}} {
		got, err := newServer(t, imageFake()).ListImages(t.Context(), &runtimeapi.ListImagesRequest{Filter: filter})
		if err != nil || len(got.GetImages()) != 2 {
			t.Errorf("filter %v: %v, %v; want both", filter, got.GetImages(), err)
		}
		for _, img := range got.GetImages() {
			if img.GetSize() == 0 {
				t.Errorf("image %s has no size", img.GetId())
			}
		}
	}
}

func TestPullCarriesTheWholeLogin(t *testing.T) {
	svc := imageFake()
	_, err := newServer(t, svc).PullImage(t.Context(), &runtimeapi.PullImageRequest{
		Image: &runtimeapi.ImageSpec{Image: "a/web:1"},
		Auth: &runtimeapi.AuthConfig{
			Username: "u", Password: "p", Auth: "a", ServerAddress: "s", IdentityToken: "i", RegistryToken: "r",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := vm.RegistryAuth{Username: "u", Password: "p", Auth: "a", ServerAddress: "s", IdentityToken: "i", RegistryToken: "r"}
	if svc.auth != want {
		t.Errorf("login is %v, want %v", svc.auth, want)
	}
}

func TestImageCallsThatAreRefused(t *testing.T) {
	s := newServer(t, imageFake())
	_, err := s.PullImage(t.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: "x", RuntimeHandler: "runc"}})
	wantClass(t, err, errdefs.ErrInvalidArgument, "runtime_handler")
	_, err = s.PullImage(t.Context(), &runtimeapi.PullImageRequest{Auth: &runtimeapi.AuthConfig{Password: secret}})
	wantClass(t, err, errdefs.ErrInvalidArgument, "image.image")
	_, err = s.RemoveImage(t.Context(), &runtimeapi.RemoveImageRequest{})
	wantClass(t, err, errdefs.ErrInvalidArgument, "image.image")
	_, err = s.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{})
	wantClass(t, err, errdefs.ErrInvalidArgument, "image.image")
}

func TestRemoveImageHandsTheReferenceDown(t *testing.T) {
	svc := imageFake()
	s := newServer(t, svc)
	if _, err := s.RemoveImage(t.Context(), &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: "a/web:1"}}); err != nil {
		t.Fatal(err)
	}
	if want := "RemoveImage a/web:1"; len(svc.calls) != 1 || svc.calls[0] != want {
		t.Errorf("called %q, want %q", svc.calls, want)
	}
	svc.err = fmt.Errorf("in use: %w", errdefs.ErrFailedPrecondition)
	_, err := s.RemoveImage(t.Context(), &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: "a/web:1"}})
	if !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("error is %v, want the one from below", err)
	}
}

func TestImageFsInfo(t *testing.T) {
	svc := imageFake()
	svc.usage = vm.FSUsage{At: time.Unix(1, 2), MountPoint: "/var/lib/vmlet/images", UsedBytes: 3, UsedInodes: 4}
	got, err := newServer(t, svc).ImageFsInfo(t.Context(), &runtimeapi.ImageFsInfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := &runtimeapi.ImageFsInfoResponse{ImageFilesystems: []*runtimeapi.FilesystemUsage{{
		Timestamp: 1_000_000_002, FsId: &runtimeapi.FilesystemIdentifier{Mountpoint: "/var/lib/vmlet/images"},
		UsedBytes: count(3), InodesUsed: count(4),
	}}}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
}
