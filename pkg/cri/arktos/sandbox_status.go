// SPDX-License-Identifier: Apache-2.0

package arktos

import (
	"context"
	"maps"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
)

// PodSandboxStatus answers from memory. Field 2 of the network is the NICs of the pod's spec, where runtime.v1 has addresses.
func (s *Server) PodSandboxStatus(ctx context.Context, req *arktosv1alpha2.PodSandboxStatusRequest) (*arktosv1alpha2.PodSandboxStatusResponse, error) {
	theirs, err := translate(req, &runtimeapi.PodSandboxStatusRequest{})
	if err != nil {
		return nil, err
	}
	resp, err := s.v1.PodSandboxStatus(ctx, theirs)
	if err != nil {
		return nil, err
	}
	resp.ContainersStatuses = nil // dropped anyway
	answer, err := translate(resp, &arktosv1alpha2.PodSandboxStatusResponse{})
	if err != nil {
		return nil, err
	}
	sb, err := s.svc.Sandbox(answer.GetStatus().GetId())
	if err != nil {
		return nil, err
	}
	status := answer.GetStatus()
	status.Metadata.Tenant = sb.Spec.Tenant
	status.Annotations = withBinary(status.GetAnnotations(), sb)
	status.Network.Nics = nicStatuses(ofPod(sb)) // in place of what was read of further addresses
	return answer, nil
}

// ListPodSandbox answers from memory, newest first.
func (s *Server) ListPodSandbox(ctx context.Context, req *arktosv1alpha2.ListPodSandboxRequest) (*arktosv1alpha2.ListPodSandboxResponse, error) {
	answer, err := through(ctx, req, &runtimeapi.ListPodSandboxRequest{}, s.v1.ListPodSandbox, &arktosv1alpha2.ListPodSandboxResponse{})
	if err != nil {
		return nil, err
	}
	for _, item := range answer.GetItems() {
		sb, err := s.svc.Sandbox(item.GetId())
		if err != nil {
			continue // it was removed in this moment: what is listed was true
		}
		item.Metadata.Tenant = sb.Spec.Tenant
		item.Annotations = withBinary(item.GetAnnotations(), sb)
	}
	return answer, nil
}

// withBinary adds the annotations that runtime.v1 has no type for.
func withBinary(annotations map[string][]byte, sb vm.Sandbox) map[string][]byte {
	if annotations == nil && len(sb.Spec.BinaryAnnotations) > 0 {
		annotations = map[string][]byte{}
	}
	maps.Copy(annotations, sb.Spec.BinaryAnnotations)
	return annotations
}
