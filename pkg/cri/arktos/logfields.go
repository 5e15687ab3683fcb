// SPDX-License-Identifier: Apache-2.0

package arktos

import (
	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/log"
	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
)

// LogFields are what a request's log lines say of it beside its IDs. Nothing else of a request is ever logged.
func LogFields(req any) []zap.Field {
	switch r := req.(type) {
	case *arktosv1alpha2.RunPodSandboxRequest:
		meta := r.GetConfig().GetMetadata()
		return []zap.Field{
			zap.String("tenant", meta.GetTenant()), zap.String("namespace", meta.GetNamespace()),
			zap.String("pod", meta.GetName()), zap.Uint32("attempt", meta.GetAttempt()),
		}
	case *arktosv1alpha2.CreateContainerRequest:
		meta := r.GetConfig().GetMetadata()
		return []zap.Field{
			zap.String("name", meta.GetName()), zap.Uint32("attempt", meta.GetAttempt()),
			zap.String("image", log.WithoutLogin(r.GetConfig().GetImage().GetImage())),
		}
	case *arktosv1alpha2.RebootVMRequest:
		return []zap.Field{zap.String("container", r.GetVmId())}
	case *arktosv1alpha2.CreateSnapshotRequest:
		return []zap.Field{zap.String("container", r.GetVmID()), zap.String("snapshot", r.GetSnapshotID())}
	case *arktosv1alpha2.RestoreToSnapshotRequest:
		return []zap.Field{zap.String("container", r.GetVmID()), zap.String("snapshot", r.GetSnapshotID())}
	case *arktosv1alpha2.DeviceAttachDetachRequest:
		return []zap.Field{zap.String("pod", r.GetPodSandboxID()), zap.String("nic", r.GetNic().GetName())}
	case interface {
		GetImage() *arktosv1alpha2.ImageSpec
	}: // PullImage, RemoveImage, ImageStatus
		return []zap.Field{zap.String("image", log.WithoutLogin(r.GetImage().GetImage()))}
	}
	return nil
}
