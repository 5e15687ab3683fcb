// SPDX-License-Identifier: Apache-2.0

package vmapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/vmlet/vmlet/pkg/vm"
	"github.com/vmlet/vmlet/pkg/vmapi"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

func TestAPullTellsHowFarItIsAndEndsWithTheImage(t *testing.T) {
	heard := make(chan struct{})
	conn := connect(t, vmapi.Deps{Images: images{
		pull: func(ctx context.Context, ref string, auth vm.RegistryAuth, progress func(vm.PullProgress)) (vm.Image, error) {
			if ref != "registry.example/tiny" {
				t.Errorf("pulled %q", ref)
			}
			want := vm.RegistryAuth{Username: "u", Password: "p", Auth: "a", ServerAddress: "s", IdentityToken: "i", RegistryToken: "r"}
			if diff := cmp.Diff(want, auth); diff != "" {
				t.Error(diff)
			}
			for _, p := range []vm.PullProgress{
				{Phase: vm.PullResolving},
				{Phase: vm.PullDownloading, Done: 5, Total: 10},
			} {
				progress(p)
				select {
				case <-heard:
				case <-ctx.Done():
					return vm.Image{}, ctx.Err()
				}
			}
			progress(vm.PullProgress{Phase: vm.PullDone, Done: 10, Total: 10})
			return vm.Image{
				ID: "sha256:1", Tags: []string{"tiny:latest"}, Digests: []string{"tiny@sha256:2"},
				Format: vm.FormatQCOW2, Size: 10, VirtualSize: 100, Path: "/secret/path",
			}, nil
		},
	}})
	stream, err := vmletv1.NewImageServiceClient(conn).PullImage(t.Context(), &vmletv1.PullImageRequest{
		Image: "registry.example/tiny",
		Auth:  &vmletv1.RegistryAuth{Username: "u", Password: "p", Auth: "a", ServerAddress: "s", IdentityToken: "i", RegistryToken: "r"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []*vmletv1.PullImageResponse
	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, msg)
		if len(got) <= 2 {
			heard <- struct{}{}
		}
	}
	told := func(phase vmletv1.PullPhase, done, total int64) *vmletv1.PullImageResponse {
		return &vmletv1.PullImageResponse{Event: &vmletv1.PullImageResponse_Progress{
			Progress: &vmletv1.PullProgress{Phase: phase, DoneBytes: done, TotalBytes: total},
		}}
	}
	want := []*vmletv1.PullImageResponse{
		told(vmletv1.PullPhase_PULL_PHASE_RESOLVING, 0, 0),
		told(vmletv1.PullPhase_PULL_PHASE_DOWNLOADING, 5, 10),
		told(vmletv1.PullPhase_PULL_PHASE_DONE, 10, 10),
		{Event: &vmletv1.PullImageResponse_Image{Image: &vmletv1.Image{
			Id: "sha256:1", RepoTags: []string{"tiny:latest"}, RepoDigests: []string{"tiny@sha256:2"},
			Format: vmletv1.DiskFormat_DISK_FORMAT_QCOW2, SizeBytes: 10, VirtualSizeBytes: 100,
		}}},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestAPullDoesNotWaitForAClientThatDoesNotRead(t *testing.T) {
	returned := make(chan struct{})
	conn := connect(t, vmapi.Deps{Images: images{
		pull: func(_ context.Context, _ string, _ vm.RegistryAuth, progress func(vm.PullProgress)) (vm.Image, error) {
			defer close(returned)
			// Far more than the 64 KiB of flow control and buffers in between.
			for i := range int64(200_000) {
				progress(vm.PullProgress{Phase: vm.PullDownloading, Done: i, Total: 200_000})
			}
			return vm.Image{}, nil
		},
	}})
	_, err := vmletv1.NewImageServiceClient(conn).PullImage(t.Context(), &vmletv1.PullImageRequest{Image: "tiny"})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-returned:
	case <-t.Context().Done():
		t.Error("the pull is held up")
	}
}

func TestAClientThatGoesAwayEndsItsPull(t *testing.T) {
	ended := make(chan error, 1)
	conn := connect(t, vmapi.Deps{Images: images{
		pull: func(ctx context.Context, _ string, _ vm.RegistryAuth, progress func(vm.PullProgress)) (vm.Image, error) {
			progress(vm.PullProgress{Phase: vm.PullResolving})
			<-ctx.Done()
			ended <- ctx.Err()
			return vm.Image{}, ctx.Err()
		},
	}})
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := vmletv1.NewImageServiceClient(conn).PullImage(ctx, &vmletv1.PullImageRequest{Image: "tiny"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the pull ended with %v", err)
	}
}

func TestAPullThatFailsSaysSoAsItsLastWord(t *testing.T) {
	conn := connect(t, vmapi.Deps{Images: images{
		pull: func(context.Context, string, vm.RegistryAuth, func(vm.PullProgress)) (vm.Image, error) {
			return vm.Image{}, fmt.Errorf("pull tiny: %w", errdefs.ErrNotFound)
		},
	}})
	for image, want := range map[string]codes.Code{"tiny": codes.NotFound, "": codes.InvalidArgument} {
		stream, err := vmletv1.NewImageServiceClient(conn).PullImage(t.Context(), &vmletv1.PullImageRequest{Image: image})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); status.Code(err) != want {
			t.Errorf("%q: got %v, want %s", image, err, want)
		}
	}
}
