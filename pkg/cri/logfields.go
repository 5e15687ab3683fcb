// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"regexp"
	"strings"

	"go.uber.org/zap"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
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
			zap.String("image", withoutLogin(r.GetConfig().GetImage().GetImage())),
		}
	case interface{ GetImage() *runtimeapi.ImageSpec }: // PullImage, RemoveImage, ImageStatus
		return []zap.Field{zap.String("image", withoutLogin(r.GetImage().GetImage()))}
	}
	return nil
}

var (
	// urlScheme is the beginning of a URL (RFC 3986).
	urlScheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://`)
	// digest is the end of a reference by digest.
	digest = regexp.MustCompile(`@sha256:[0-9a-f]+$`)
)

// withoutLogin takes what may be secret out of a reference that was written like a URL:
// "user:password@" before the host, and a query, which may be a signature.
func withoutLogin(ref string) string {
	scheme := urlScheme.FindString(ref)
	rest, _, _ := strings.Cut(ref[len(scheme):], "?")
	name := digest.ReplaceAllString(rest, "")
	byDigest := rest[len(name):]
	return scheme + name[strings.LastIndexByte(name, '@')+1:] + byDigest
}
