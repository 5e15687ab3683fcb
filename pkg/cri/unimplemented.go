// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// instead says, for each RPC that is not implemented, what to use in its place.
var instead = map[string]string{
	"UpdateContainerResources":  "a VM keeps the size it was created with; create the container anew",
	"UpdatePodSandboxResources": "a VM keeps the size it was created with; create the pod anew",
	"CheckpointContainer":       "a VM cannot be checkpointed yet",
	"CheckpointPod":             "a VM cannot be checkpointed yet",
	"RestorePod":                "a VM cannot be restored yet",
	"GetContainerEvents":        "use ListContainers and ContainerStatus",
	"ListMetricDescriptors":     "use ListPodSandboxStats",
	"ListPodSandboxMetrics":     "use ListPodSandboxStats",
	"StreamPodSandboxes":        "use ListPodSandbox",
	"StreamContainers":          "use ListContainers",
	"StreamContainerStats":      "use ListContainerStats",
	"StreamPodSandboxStats":     "use ListPodSandboxStats",
	"StreamPodSandboxMetrics":   "use ListPodSandboxStats",
	"StreamImages":              "use ListImages",
}

func unimplemented(rpc string) error {
	return fmt.Errorf("%s: %s: %w", rpc, instead[rpc], errdefs.ErrNotImplemented)
}

// UpdateContainerResources is not implemented.
func (*Server) UpdateContainerResources(context.Context, *runtimeapi.UpdateContainerResourcesRequest) (*runtimeapi.UpdateContainerResourcesResponse, error) {
	return nil, unimplemented("UpdateContainerResources")
}

// UpdatePodSandboxResources is not implemented. The kubelet goes on without it ("This
// request is treated as best effort").
func (*Server) UpdatePodSandboxResources(context.Context, *runtimeapi.UpdatePodSandboxResourcesRequest) (*runtimeapi.UpdatePodSandboxResourcesResponse, error) {
	return nil, unimplemented("UpdatePodSandboxResources")
}

// CheckpointContainer is not implemented.
func (*Server) CheckpointContainer(context.Context, *runtimeapi.CheckpointContainerRequest) (*runtimeapi.CheckpointContainerResponse, error) {
	return nil, unimplemented("CheckpointContainer")
}

// CheckpointPod is not implemented.
func (*Server) CheckpointPod(context.Context, *runtimeapi.CheckpointPodRequest) (*runtimeapi.CheckpointPodResponse, error) {
	return nil, unimplemented("CheckpointPod")
}

// RestorePod is not implemented.
func (*Server) RestorePod(context.Context, *runtimeapi.RestorePodRequest) (*runtimeapi.RestorePodResponse, error) {
	return nil, unimplemented("RestorePod")
}

// GetContainerEvents is not implemented. The kubelet polls instead.
func (*Server) GetContainerEvents(*runtimeapi.GetEventsRequest, grpc.ServerStreamingServer[runtimeapi.ContainerEventResponse]) error {
	return unimplemented("GetContainerEvents")
}

// ListMetricDescriptors is not implemented.
func (*Server) ListMetricDescriptors(context.Context, *runtimeapi.ListMetricDescriptorsRequest) (*runtimeapi.ListMetricDescriptorsResponse, error) {
	return nil, unimplemented("ListMetricDescriptors")
}

// ListPodSandboxMetrics is not implemented.
func (*Server) ListPodSandboxMetrics(context.Context, *runtimeapi.ListPodSandboxMetricsRequest) (*runtimeapi.ListPodSandboxMetricsResponse, error) {
	return nil, unimplemented("ListPodSandboxMetrics")
}

// StreamPodSandboxes is not implemented. Streamed lists are behind the kubelet's feature
// gate CRIListStreaming; the list calls answer the same.
func (*Server) StreamPodSandboxes(*runtimeapi.StreamPodSandboxesRequest, grpc.ServerStreamingServer[runtimeapi.StreamPodSandboxesResponse]) error {
	return unimplemented("StreamPodSandboxes")
}

// StreamContainers is not implemented.
func (*Server) StreamContainers(*runtimeapi.StreamContainersRequest, grpc.ServerStreamingServer[runtimeapi.StreamContainersResponse]) error {
	return unimplemented("StreamContainers")
}

// StreamContainerStats is not implemented.
func (*Server) StreamContainerStats(*runtimeapi.StreamContainerStatsRequest, grpc.ServerStreamingServer[runtimeapi.StreamContainerStatsResponse]) error {
	return unimplemented("StreamContainerStats")
}

// StreamPodSandboxStats is not implemented.
func (*Server) StreamPodSandboxStats(*runtimeapi.StreamPodSandboxStatsRequest, grpc.ServerStreamingServer[runtimeapi.StreamPodSandboxStatsResponse]) error {
	return unimplemented("StreamPodSandboxStats")
}

// StreamPodSandboxMetrics is not implemented.
func (*Server) StreamPodSandboxMetrics(*runtimeapi.StreamPodSandboxMetricsRequest, grpc.ServerStreamingServer[runtimeapi.StreamPodSandboxMetricsResponse]) error {
	return unimplemented("StreamPodSandboxMetrics")
}

// StreamImages is not implemented.
func (*Server) StreamImages(*runtimeapi.StreamImagesRequest, grpc.ServerStreamingServer[runtimeapi.StreamImagesResponse]) error {
	return unimplemented("StreamImages")
}
