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
	news, done, told := make(latest, 1), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(told)
		news.forward(done, func(p vm.PullProgress) error {
			return stream.Send(&vmletv1.PullImageResponse{Event: &vmletv1.PullImageResponse_Progress{Progress: progress(p)}})
		})
	}()
	img, err := s.images.PullImage(stream.Context(), req.GetImage(), registryAuth(req.GetAuth()), news.put)
	close(done)
	<-told // gRPC allows one Send at a time
	if err != nil {
		return err
	}
	return stream.Send(&vmletv1.PullImageResponse{Event: &vmletv1.PullImageResponse_Image{Image: image(img)}})
}

// latest hands progress from a pull, which must not block, to a client that may be slow:
// what was not taken in time is replaced by what comes next. It has room for one.
type latest chan vm.PullProgress

func (l latest) put(p vm.PullProgress) {
	select {
	case <-l:
	default:
	}
	select {
	case l <- p:
	default:
	}
}

// forward sends what is put until done is closed, the last of it included, or until send
// fails: a client that is gone ends the stream's context and with it the pull.
func (l latest) forward(done <-chan struct{}, send func(vm.PullProgress) error) {
	for {
		select {
		case p := <-l:
			if send(p) != nil {
				return
			}
		case <-done:
			select {
			case p := <-l:
				_ = send(p) //nolint:errcheck // the pull's own end is told next, and fails the same
			default:
			}
			return
		}
	}
}
