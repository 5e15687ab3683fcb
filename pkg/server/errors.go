// SPDX-License-Identifier: Apache-2.0

package server

import (
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc/status"
)

// toStatus turns an error into the gRPC status that goes out, by its errdefs class or
// that of a context that ended. This is the only place that does. The text goes with it;
// details do not, for they would carry whatever values the wrapped errors hold.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	st, _ := status.FromError(errgrpc.ToGRPC(err))
	return status.Error(st.Code(), st.Message())
}
