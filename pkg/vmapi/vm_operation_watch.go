// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"google.golang.org/grpc"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// WatchOperation tells how far an operation is until it has ended.
func (s *vmServer) WatchOperation(req *vmletv1.WatchOperationRequest, stream grpc.ServerStreamingServer[vmletv1.WatchOperationResponse]) error {
	if err := checkOperation(req.GetId()); err != nil {
		return err
	}
	return s.vms.WatchOperation(stream.Context(), req.GetVm(), req.GetId(), func(o vm.OperationInfo) error {
		return stream.Send(&vmletv1.WatchOperationResponse{Operation: operationOf(o)})
	})
}
