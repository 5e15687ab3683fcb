// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/log"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// LogFields are what a request's log lines say of it beside its VM: which image, disk or operation. Nothing else of a request is ever
// logged.
func LogFields(req any) []zap.Field {
	switch r := req.(type) {
	case *vmletv1.PullImageRequest:
		return []zap.Field{zap.String("image", log.WithoutLogin(r.GetImage()))}
	case *vmletv1.ImportImageRequest:
		return []zap.Field{zap.String("image", log.WithoutLogin(r.GetName()))}
	case *vmletv1.RemoveDiskRequest:
		return []zap.Field{zap.String("disk", r.GetName())}
	case *vmletv1.CancelOperationRequest:
		return []zap.Field{zap.String("operation", r.GetId())}
	}
	return nil
}
