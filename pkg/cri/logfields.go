// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"go.uber.org/zap"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/log"
)

// LogFields are what a request's log lines say of it beside its IDs: whose it is, in the
// words that people know a pod by. Nothing else of a request is ever logged.
func LogFields(req any) []zap.Field {
	switch r := req.(type) {
	case *runtimeapi.RunPodSandboxRequest:
		meta := r.GetConfig().GetMetadata()
		return []zap.Field{
			zap.String("namespace", meta.GetNamespace()),
			zap.String("pod", meta.GetName()),
			zap.Uint32("attempt", meta.GetAttempt()),
		}
	case *runtimeapi.CreateContainerRequest:
		meta := r.GetConfig().GetMetadata()
		return []zap.Field{
			zap.String("name", meta.GetName()),
			zap.Uint32("attempt", meta.GetAttempt()),
			zap.String("image", log.WithoutLogin(r.GetConfig().GetImage().GetImage())),
		}
	case interface{ GetImage() *runtimeapi.ImageSpec }: // PullImage, RemoveImage, ImageStatus
		return []zap.Field{zap.String("image", log.WithoutLogin(r.GetImage().GetImage()))}
	}
	return nil
}
