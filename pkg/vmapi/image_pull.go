// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"fmt"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// PullImage fetches an image and tells how far it is. Errors are those of the image store.
func (s *imageServer) PullImage(req *vmletv1.PullImageRequest, stream grpc.ServerStreamingServer[vmletv1.PullImageResponse]) error {
	if req.GetImage() == "" {
		return fmt.Errorf("image: must not be empty: %w", errdefs.ErrInvalidArgument)
	}
	news := newNewest()
	told := make(chan struct{})
	go func() {
		defer close(told)
		for p := range news.all() {
			// A client that is gone ends the stream's context, and with it the pull.
			if stream.Send(&vmletv1.PullImageResponse{Event: &vmletv1.PullImageResponse_Progress{Progress: progress(p)}}) != nil {
				return
			}
		}
	}()
	img, err := s.images.PullImage(stream.Context(), req.GetImage(), registryAuth(req.GetAuth()), news.put)
	news.close()
	<-told // gRPC allows one Send at a time
	if err != nil {
		return err
	}
	return stream.Send(&vmletv1.PullImageResponse{Event: &vmletv1.PullImageResponse_Image{Image: image(img)}})
}

// newest hands progress from one who must not block to one who may be slow: a value that
// was not taken in time is replaced by the next.
type newest struct{ ch chan vm.PullProgress }

func newNewest() newest { return newest{make(chan vm.PullProgress, 1)} }

// put leaves p for all. It must not be called by two at once, nor after close.
func (n newest) put(p vm.PullProgress) {
	select {
	case <-n.ch:
	default:
	}
	n.ch <- p // there is room: nobody else puts
}

// all yields what is put until close, the last value included.
func (n newest) all() <-chan vm.PullProgress { return n.ch }

func (n newest) close() { close(n.ch) }
