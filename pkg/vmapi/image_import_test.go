// SPDX-License-Identifier: Apache-2.0

package vmapi_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/vmlet/vmlet/pkg/vm"
	"github.com/vmlet/vmlet/pkg/vmapi"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

func name(s string) *vmletv1.ImportImageRequest {
	return &vmletv1.ImportImageRequest{Part: &vmletv1.ImportImageRequest_Name{Name: s}}
}

func chunk(s string) *vmletv1.ImportImageRequest {
	return &vmletv1.ImportImageRequest{Part: &vmletv1.ImportImageRequest_Chunk{Chunk: []byte(s)}}
}

// received is what the image store saw of an import.
type received struct {
	name, content string
	err           error
}

// store takes imports and tells what it saw of each.
func store(saw chan<- received) images {
	return images{take: func(_ context.Context, name string, r io.Reader, _ func(vm.PullProgress)) (vm.Image, error) {
		content, err := io.ReadAll(r)
		saw <- received{name, string(content), err}
		return vm.Image{ID: "sha256:1", Size: int64(len(content)), Format: vm.FormatRaw}, err
	}}
}

func TestAnImportStoresWhatTheChunksHold(t *testing.T) {
	saw := make(chan received, 1)
	client := vmletv1.NewImageServiceClient(connect(t, vmapi.Deps{Images: store(saw)}))
	stream, err := client.ImportImage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, msg := range []*vmletv1.ImportImageRequest{name("disk"), chunk("ab"), chunk(""), chunk("c")} {
		if err := stream.Send(msg); err != nil {
			t.Fatal(err)
		}
	}
	resp, err := stream.CloseAndRecv()
	if err != nil {
		t.Fatal(err)
	}
	if got := <-saw; got != (received{"disk", "abc", nil}) {
		t.Errorf("the store saw %+v", got)
	}
	if img := resp.GetImage(); img.GetId() != "sha256:1" || img.GetSizeBytes() != 3 || img.GetFormat() != vmletv1.DiskFormat_DISK_FORMAT_RAW {
		t.Errorf("got %v", img)
	}
}

func TestAnImportThatBreaksOffIsNoWholeDisk(t *testing.T) {
	begun, ended := make(chan struct{}), make(chan error, 1)
	client := vmletv1.NewImageServiceClient(connect(t, vmapi.Deps{Images: images{
		take: func(_ context.Context, _ string, r io.Reader, _ func(vm.PullProgress)) (vm.Image, error) {
			if _, err := io.ReadFull(r, make([]byte, len("half"))); err != nil {
				t.Error(err)
			}
			close(begun)
			_, err := io.ReadAll(r)
			ended <- err
			return vm.Image{}, err
		},
	}}))
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := client.ImportImage(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, msg := range []*vmletv1.ImportImageRequest{name("disk"), chunk("half")} {
		if err := stream.Send(msg); err != nil {
			t.Fatal(err)
		}
	}
	<-begun
	cancel()
	if err := <-ended; err == nil {
		t.Error("the store took half a disk for a whole one")
	}
}

func TestAnImportOutOfOrderIsRefused(t *testing.T) {
	for title, msgs := range map[string][]*vmletv1.ImportImageRequest{
		"nothing":           {},
		"no name":           {chunk("a")},
		"empty name":        {name(""), chunk("a")},
		"nothing in it":     {{}},
		"a second name":     {name("disk"), name("other")},
		"nothing in second": {name("disk"), {}},
	} {
		t.Run(title, func(t *testing.T) {
			client := vmletv1.NewImageServiceClient(connect(t, vmapi.Deps{Images: store(make(chan received, 1))}))
			stream, err := client.ImportImage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, msg := range msgs {
				if err := stream.Send(msg); errors.Is(err, io.EOF) {
					break // the server has refused it by now: its answer says why
				} else if err != nil {
					t.Fatal(err)
				}
			}
			if _, err := stream.CloseAndRecv(); status.Code(err) != codes.InvalidArgument {
				t.Errorf("got %v", err)
			}
		})
	}
}
