// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestClassesOfErrorsBecomeCodes(t *testing.T) {
	for class, want := range map[error]codes.Code{
		errdefs.ErrInvalidArgument:    codes.InvalidArgument,
		errdefs.ErrNotFound:           codes.NotFound,
		errdefs.ErrAlreadyExists:      codes.AlreadyExists,
		errdefs.ErrPermissionDenied:   codes.PermissionDenied,
		errdefs.ErrResourceExhausted:  codes.ResourceExhausted,
		errdefs.ErrFailedPrecondition: codes.FailedPrecondition,
		errdefs.ErrConflict:           codes.FailedPrecondition,
		errdefs.ErrAborted:            codes.Aborted,
		errdefs.ErrOutOfRange:         codes.OutOfRange,
		errdefs.ErrNotImplemented:     codes.Unimplemented,
		errdefs.ErrInternal:           codes.Internal,
		errdefs.ErrUnavailable:        codes.Unavailable,
		errdefs.ErrDataLoss:           codes.DataLoss,
		errdefs.ErrUnauthenticated:    codes.Unauthenticated,
		context.DeadlineExceeded:      codes.DeadlineExceeded,
		context.Canceled:              codes.Canceled,
		syscall.ENOSPC:                codes.ResourceExhausted,
		syscall.EIO:                   codes.Unknown,
		errors.New("surprise"):        codes.Unknown,
	} {
		err := fmt.Errorf("stop sandbox s1: destroy: %w", class)
		r := serve(t, &stub{run: func(context.Context) error { return err }}, nil)
		_, got := r.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{})
		if status.Code(got) != want {
			t.Errorf("%v became %s, want %s", class, status.Code(got), want)
		}
		if status.Convert(got).Message() != err.Error() {
			t.Errorf("the text became %q, want %q", status.Convert(got).Message(), err)
		}
	}
}

func TestSuccessStaysSuccess(t *testing.T) {
	if err := toStatus(nil); err != nil {
		t.Error(err)
	}
}

// leaky is an error that containerd's errgrpc would send to the client in full, as a detail.
type leaky struct{ *wrapperspb.StringValue }

func (leaky) Error() string             { return "login failed" }
func (leaky) WrapError(err error) error { return err }
func (leaky) Unwrap() error             { return errdefs.ErrUnauthenticated }

func TestWhatWrappedErrorsHoldStaysHere(t *testing.T) {
	inner, err := status.New(codes.NotFound, "no such thing").WithDetails(wrapperspb.String("s3cr3t"))
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"of a status below": fmt.Errorf("pull: %w", inner.Err()),
		"of an error":       fmt.Errorf("pull: %w", leaky{wrapperspb.String("s3cr3t")}),
	} {
		if got := status.Convert(toStatus(err)); len(got.Details()) != 0 {
			t.Errorf("%s: details went out: %v", name, got.Details())
		}
	}
	if got := status.Code(toStatus(fmt.Errorf("pull: %w", inner.Err()))); got != codes.NotFound {
		t.Errorf("a status below became %s, want its own code", got)
	}
}
