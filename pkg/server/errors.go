// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"syscall"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// codeOf gives each class of errors its code, and a full disk, which may hit any write. What is not here is Unknown.
var codeOf = map[error]codes.Code{
	errdefs.ErrInvalidArgument:    codes.InvalidArgument,
	errdefs.ErrNotFound:           codes.NotFound,
	errdefs.ErrAlreadyExists:      codes.AlreadyExists,
	errdefs.ErrPermissionDenied:   codes.PermissionDenied,
	errdefs.ErrResourceExhausted:  codes.ResourceExhausted,
	errdefs.ErrFailedPrecondition: codes.FailedPrecondition,
	errdefs.ErrConflict:           codes.FailedPrecondition,
	errdefs.ErrNotModified:        codes.FailedPrecondition,
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
	syscall.EDQUOT:                codes.ResourceExhausted,
}

// toStatus turns an error into the gRPC status that goes out, by its errdefs class or
// that of a context that ended. This is the only place that does. The text goes with it;
// details, which containerd's errgrpc would add, do not: they would carry whatever values
// the wrapped errors hold.
func toStatus(err error) error {
	if st, ok := status.FromError(err); ok { // nil, or a status already
		return status.Error(st.Code(), st.Message())
	}
	code, ok := codeOf[errdefs.Resolve(err)]
	if errno := syscall.Errno(0); !ok && errors.As(err, &errno) {
		code, ok = codeOf[errno]
	}
	if !ok {
		code = codes.Unknown
	}
	return status.Error(code, err.Error())
}
