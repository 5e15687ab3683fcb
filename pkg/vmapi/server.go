// SPDX-License-Identifier: Apache-2.0

// Package vmapi serves vmlet.v1, what the CRI has no words for: one file per RPC, named by
// it, which validates, converts, makes one call down and converts back. Errors carry
// errdefs classes; the server turns them into gRPC codes.
package vmapi

import (
	"context"
	"io"

	"google.golang.org/grpc"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// Images are the use cases of VM images that the handlers call. progress is called from
// one goroutine at a time and must not block.
type Images interface {
	PullImage(ctx context.Context, ref string, auth vm.RegistryAuth, progress func(vm.PullProgress)) (vm.Image, error)
	ImportImage(ctx context.Context, name string, r io.Reader, progress func(vm.PullProgress)) (vm.Image, error)
}

// Disks are the use cases of persistent disks.
type Disks interface {
	// Disks lists them, oldest first.
	Disks(ctx context.Context) ([]vm.HeldDisk, error)
	// RemoveDisk is NotFound for an unknown name and FailedPrecondition for a disk in use.
	RemoveDisk(ctx context.Context, name string) error
}

// VMs are the use cases of single VMs. ref names one as the proto's VMService says.
type VMs interface {
	Reboot(ctx context.Context, ref string, req vm.RebootRequest) (vm.Rebooted, error)
	Pause(ctx context.Context, ref string) error
	Resume(ctx context.Context, ref string) error
}

// Doctor looks at the host. Its checks are bounded in time.
type Doctor interface {
	Run(ctx context.Context) []vm.Check
}

// Hypervisor tells what runs the VMs.
type Hypervisor interface {
	// Versions are libvirt's and QEMU's. Unavailable while libvirt does not answer.
	Versions(ctx context.Context) (libvirt, qemu string, err error)
}

// Deps is what the handlers need. All of it is safe for concurrent use.
type Deps struct {
	Images     Images
	Disks      Disks
	VMs        VMs
	Doctor     Doctor
	Hypervisor Hypervisor
	// Accel is how guests' CPUs are run, "" while that is not known yet.
	Accel func() vm.Accel
}

// Register puts the services of vmlet.v1 on a gRPC server.
func Register(r grpc.ServiceRegistrar, deps Deps) {
	vmletv1.RegisterImageServiceServer(r, &imageServer{images: deps.Images})
	vmletv1.RegisterDiskServiceServer(r, &diskServer{disks: deps.Disks})
	vmletv1.RegisterVMServiceServer(r, &vmServer{vms: deps.VMs})
	vmletv1.RegisterNodeServiceServer(r, &nodeServer{doctor: deps.Doctor, hypervisor: deps.Hypervisor, accel: deps.Accel})
}

// AlwaysServed are the methods that answer while the daemon is still recovering: they
// touch no sandbox, and tell what it may be waiting for.
func AlwaysServed() []string {
	return []string{
		vmletv1.NodeService_Doctor_FullMethodName,
		vmletv1.NodeService_Version_FullMethodName,
	}
}

type imageServer struct {
	vmletv1.UnimplementedImageServiceServer

	images Images
}

type diskServer struct {
	vmletv1.UnimplementedDiskServiceServer

	disks Disks
}

type vmServer struct {
	vmletv1.UnimplementedVMServiceServer

	vms VMs
}

type nodeServer struct {
	vmletv1.UnimplementedNodeServiceServer

	doctor     Doctor
	hypervisor Hypervisor
	accel      func() vm.Accel
}
