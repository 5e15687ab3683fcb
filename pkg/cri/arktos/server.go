// SPDX-License-Identifier: Apache-2.0

package arktos

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"github.com/vmlet/vmlet/pkg/cri"
	"github.com/vmlet/vmlet/pkg/vm"
	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
)

// UseCases are those that are called beside what the handlers of runtime.v1 call. ref names a VM by the ID of its container or
// sandbox. All are safe for concurrent use and return errors that carry errdefs classes.
type UseCases interface {
	RunSandbox(ctx context.Context, spec vm.SandboxSpec) (id string, err error)
	RemoveSandbox(ctx context.Context, id string) error
	// Sandbox, Sandboxes, Container and Containers answer from memory. What they return is shared, and never changes.
	Sandbox(id string) (vm.Sandbox, error)
	Sandboxes() []*vm.Sandbox
	Container(id string) (vm.Container, error)
	Containers() []*vm.Container
	Image(ctx context.Context, ref string) (vm.Image, error)

	Reboot(ctx context.Context, ref string, req vm.RebootRequest) (vm.Rebooted, error)
	CreateSnapshot(ctx context.Context, ref string, req vm.SnapshotRequest) (vm.SnapshotInfo, error)
	RestoreSnapshot(ctx context.Context, ref string, req vm.RestoreRequest) error
	AttachNIC(ctx context.Context, ref string, spec vm.NICSpec, config []byte) (vm.NICAttachment, error)
	DetachNIC(ctx context.Context, ref, name string, wait time.Duration) error
}

// Server is both services of runtime.v1alpha2.
type Server struct {
	arktosv1alpha2.UnimplementedRuntimeServiceServer
	arktosv1alpha2.UnimplementedImageServiceServer

	v1  *cri.Server
	svc UseCases
}

// New makes the services. v1 are the handlers of runtime.v1 over the same use cases.
func New(v1 *cri.Server, svc UseCases) *Server { return &Server{v1: v1, svc: svc} }

// Register puts both services on a gRPC server.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	arktosv1alpha2.RegisterRuntimeServiceServer(r, s)
	arktosv1alpha2.RegisterImageServiceServer(r, s)
}

// AlwaysServed are the methods that answer while the daemon is still recovering.
func AlwaysServed() []string {
	return []string{
		arktosv1alpha2.RuntimeService_Version_FullMethodName,
		arktosv1alpha2.RuntimeService_Status_FullMethodName,
	}
}

// LongCalls are the methods that are no streams and take as long as one.
func LongCalls() []string {
	return []string{
		arktosv1alpha2.ImageService_PullImage_FullMethodName,
		arktosv1alpha2.RuntimeService_RebootVM_FullMethodName,
		arktosv1alpha2.RuntimeService_CreateSnapshot_FullMethodName,
		arktosv1alpha2.RuntimeService_RestoreToSnapshot_FullMethodName,
	}
}
