// SPDX-License-Identifier: Apache-2.0

package arktos

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
)

// The methods that mean what they mean in runtime.v1, word for word.

// StopPodSandbox is runtime.v1's: it ends what runs, and a StopContainer that comes after it finds that done.
func (s *Server) StopPodSandbox(ctx context.Context, req *arktosv1alpha2.StopPodSandboxRequest) (*arktosv1alpha2.StopPodSandboxResponse, error) {
	return through(ctx, req, &runtimeapi.StopPodSandboxRequest{}, s.v1.StopPodSandbox, &arktosv1alpha2.StopPodSandboxResponse{})
}

// RemovePodSandbox is runtime.v1's.
func (s *Server) RemovePodSandbox(ctx context.Context, req *arktosv1alpha2.RemovePodSandboxRequest) (*arktosv1alpha2.RemovePodSandboxResponse, error) {
	return through(ctx, req, &runtimeapi.RemovePodSandboxRequest{}, s.v1.RemovePodSandbox, &arktosv1alpha2.RemovePodSandboxResponse{})
}

// StartContainer is runtime.v1's. Starting a running container is a success.
func (s *Server) StartContainer(ctx context.Context, req *arktosv1alpha2.StartContainerRequest) (*arktosv1alpha2.StartContainerResponse, error) {
	return through(ctx, req, &runtimeapi.StartContainerRequest{}, s.v1.StartContainer, &arktosv1alpha2.StartContainerResponse{})
}

// StopContainer is runtime.v1's.
func (s *Server) StopContainer(ctx context.Context, req *arktosv1alpha2.StopContainerRequest) (*arktosv1alpha2.StopContainerResponse, error) {
	return through(ctx, req, &runtimeapi.StopContainerRequest{}, s.v1.StopContainer, &arktosv1alpha2.StopContainerResponse{})
}

// RemoveContainer is runtime.v1's.
func (s *Server) RemoveContainer(ctx context.Context, req *arktosv1alpha2.RemoveContainerRequest) (*arktosv1alpha2.RemoveContainerResponse, error) {
	return through(ctx, req, &runtimeapi.RemoveContainerRequest{}, s.v1.RemoveContainer, &arktosv1alpha2.RemoveContainerResponse{})
}

// ListContainers is runtime.v1's: an item's image_ref is an Image.id, which keeps that image from being collected.
func (s *Server) ListContainers(ctx context.Context, req *arktosv1alpha2.ListContainersRequest) (*arktosv1alpha2.ListContainersResponse, error) {
	return through(ctx, req, &runtimeapi.ListContainersRequest{}, s.v1.ListContainers, &arktosv1alpha2.ListContainersResponse{})
}

// UpdateContainerResources is runtime.v1's: what is 0 stays, and a resize that outlives its caller's deadline goes on.
func (s *Server) UpdateContainerResources(ctx context.Context, req *arktosv1alpha2.UpdateContainerResourcesRequest) (*arktosv1alpha2.UpdateContainerResourcesResponse, error) {
	return through(ctx, req, &runtimeapi.UpdateContainerResourcesRequest{}, s.v1.UpdateContainerResources, &arktosv1alpha2.UpdateContainerResourcesResponse{})
}

// ReopenContainerLog is runtime.v1's.
func (s *Server) ReopenContainerLog(ctx context.Context, req *arktosv1alpha2.ReopenContainerLogRequest) (*arktosv1alpha2.ReopenContainerLogResponse, error) {
	return through(ctx, req, &runtimeapi.ReopenContainerLogRequest{}, s.v1.ReopenContainerLog, &arktosv1alpha2.ReopenContainerLogResponse{})
}

// ExecSync is runtime.v1's.
func (s *Server) ExecSync(ctx context.Context, req *arktosv1alpha2.ExecSyncRequest) (*arktosv1alpha2.ExecSyncResponse, error) {
	return through(ctx, req, &runtimeapi.ExecSyncRequest{}, s.v1.ExecSync, &arktosv1alpha2.ExecSyncResponse{})
}

// Exec is runtime.v1's.
func (s *Server) Exec(ctx context.Context, req *arktosv1alpha2.ExecRequest) (*arktosv1alpha2.ExecResponse, error) {
	return through(ctx, req, &runtimeapi.ExecRequest{}, s.v1.Exec, &arktosv1alpha2.ExecResponse{})
}

// PortForward is runtime.v1's.
func (s *Server) PortForward(ctx context.Context, req *arktosv1alpha2.PortForwardRequest) (*arktosv1alpha2.PortForwardResponse, error) {
	return through(ctx, req, &runtimeapi.PortForwardRequest{}, s.v1.PortForward, &arktosv1alpha2.PortForwardResponse{})
}

// ContainerStats is runtime.v1's.
func (s *Server) ContainerStats(ctx context.Context, req *arktosv1alpha2.ContainerStatsRequest) (*arktosv1alpha2.ContainerStatsResponse, error) {
	return through(ctx, req, &runtimeapi.ContainerStatsRequest{}, s.v1.ContainerStats, &arktosv1alpha2.ContainerStatsResponse{})
}

// ListContainerStats is runtime.v1's.
func (s *Server) ListContainerStats(ctx context.Context, req *arktosv1alpha2.ListContainerStatsRequest) (*arktosv1alpha2.ListContainerStatsResponse, error) {
	return through(ctx, req, &runtimeapi.ListContainerStatsRequest{}, s.v1.ListContainerStats, &arktosv1alpha2.ListContainerStatsResponse{})
}

// UpdateRuntimeConfig is runtime.v1's.
func (s *Server) UpdateRuntimeConfig(ctx context.Context, req *arktosv1alpha2.UpdateRuntimeConfigRequest) (*arktosv1alpha2.UpdateRuntimeConfigResponse, error) {
	return through(ctx, req, &runtimeapi.UpdateRuntimeConfigRequest{}, s.v1.UpdateRuntimeConfig, &arktosv1alpha2.UpdateRuntimeConfigResponse{})
}

// Status is runtime.v1's: two conditions, of which every one must be true for the node to get VM pods.
func (s *Server) Status(ctx context.Context, req *arktosv1alpha2.StatusRequest) (*arktosv1alpha2.StatusResponse, error) {
	return through(ctx, req, &runtimeapi.StatusRequest{}, s.v1.Status, &arktosv1alpha2.StatusResponse{})
}

// ListImages is runtime.v1's.
func (s *Server) ListImages(ctx context.Context, req *arktosv1alpha2.ListImagesRequest) (*arktosv1alpha2.ListImagesResponse, error) {
	return through(ctx, req, &runtimeapi.ListImagesRequest{}, s.v1.ListImages, &arktosv1alpha2.ListImagesResponse{})
}

// ImageStatus is runtime.v1's: a name without a tag is one with :latest, and an absent image is no error.
func (s *Server) ImageStatus(ctx context.Context, req *arktosv1alpha2.ImageStatusRequest) (*arktosv1alpha2.ImageStatusResponse, error) {
	return through(ctx, req, &runtimeapi.ImageStatusRequest{}, s.v1.ImageStatus, &arktosv1alpha2.ImageStatusResponse{})
}

// ImageFsInfo is runtime.v1's.
func (s *Server) ImageFsInfo(ctx context.Context, req *arktosv1alpha2.ImageFsInfoRequest) (*arktosv1alpha2.ImageFsInfoResponse, error) {
	return through(ctx, req, &runtimeapi.ImageFsInfoRequest{}, s.v1.ImageFsInfo, &arktosv1alpha2.ImageFsInfoResponse{})
}
