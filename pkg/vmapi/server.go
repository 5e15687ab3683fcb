// SPDX-License-Identifier: Apache-2.0

// Package vmapi serves vmlet.v1, what the CRI has no words for: one file per RPC, named by
// it, which validates, converts, makes one call down and converts back. Errors carry
// errdefs classes; the server turns them into gRPC codes.
package vmapi

import (
	"context"
	"io"
	"time"

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
	VMDisks
	VMPower
	VMSizes
	Reboot(ctx context.Context, ref string, req vm.RebootRequest) (vm.Rebooted, error)
	Pause(ctx context.Context, ref string) error
	Resume(ctx context.Context, ref string) error
	CreateSnapshot(ctx context.Context, ref string, req vm.SnapshotRequest) (vm.SnapshotInfo, error)
	Snapshots(ctx context.Context, ref string) ([]vm.SnapshotInfo, error)
	Snapshot(ctx context.Context, ref, name string) (vm.SnapshotInfo, error)
	RestoreSnapshot(ctx context.Context, ref string, req vm.RestoreRequest) error
	DeleteSnapshot(ctx context.Context, ref, name string) error
	VMOperations
	// Watch sends what happens until ctx ends or send fails. ref may be "", for all VMs.
	Watch(ctx context.Context, ref, token string, send func(vm.WatchMessage) error) error
	// Capabilities answers from memory; ref may be "", for the host.
	Capabilities(ref string) ([]vm.Capability, error)
	AttachNIC(ctx context.Context, ref string, spec vm.NICSpec, config []byte) (vm.NICAttachment, error)
	DetachNIC(ctx context.Context, ref, name string, wait time.Duration) error
	NICs(ref string) ([]vm.NICView, error)
	SetLinkState(ctx context.Context, ref, name string, up bool) (vm.NICView, error)

	GuestInfo(ctx context.Context, ref string) (vm.GuestInfo, error)
	// ReadGuestFile tells begin of the file and writes the content to what that returns.
	ReadGuestFile(ctx context.Context, ref string, req vm.ReadGuestFile, begin func(vm.GuestFile) (io.Writer, error)) error
	WriteGuestFile(ctx context.Context, ref string, f vm.WriteGuestFile, content io.Reader) error
	AuthorizedKeys(ctx context.Context, ref, user string) ([]string, error)
	SetAuthorizedKeys(ctx context.Context, ref string, c vm.KeysChange) error
	SetGuestPassword(ctx context.Context, ref string, p vm.GuestPassword) error
	// Console returns how the VM ended.
	Console(ctx context.Context, ref string, req vm.ConsoleRequest, client vm.ConsoleClient) (vm.Exit, error)
	// VNC calls opened before anything is written to client, and may leave a Read of it behind, which ends with its call.
	VNC(ctx context.Context, ref string, opened func() error, client io.ReadWriter) error
	Screenshot(ctx context.Context, ref string) (vm.Picture, error)
}

// VMOperations are the use cases of long work on VMs. ref may be "" where there is an ID.
type VMOperations interface {
	// The Detach calls return when the operation is on record.
	DetachSnapshot(ctx context.Context, ref string, req vm.SnapshotRequest) (vm.OperationInfo, error)
	DetachRestoreSnapshot(ctx context.Context, ref string, req vm.RestoreRequest) (vm.OperationInfo, error)
	DetachDeleteSnapshot(ctx context.Context, ref, name string) (vm.OperationInfo, error)
	Operations(ref string) ([]vm.OperationInfo, error)
	Operation(ref, id string) (vm.OperationInfo, error)
	// WatchOperation sends the operation until it has ended, ctx ends or send fails.
	WatchOperation(ctx context.Context, ref, id string, send func(vm.OperationInfo) error) error
	CancelOperation(ctx context.Context, ref, id string) (vm.OperationInfo, error)
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
	Images Images
	Disks  Disks
	VMs    VMs
	// Checkpoints may be nil in tests that call none.
	Checkpoints Checkpoints
	Doctor      Doctor
	Hypervisor  Hypervisor
	// Accel is how guests' CPUs are run, "" while that is not known yet.
	Accel func() vm.Accel
}

// Register puts the services of vmlet.v1 on a gRPC server.
func Register(r grpc.ServiceRegistrar, deps Deps) {
	vmletv1.RegisterImageServiceServer(r, &imageServer{images: deps.Images})
	vmletv1.RegisterDiskServiceServer(r, &diskServer{disks: deps.Disks})
	vmletv1.RegisterVMServiceServer(r, &vmServer{vms: deps.VMs})
	vmletv1.RegisterCheckpointServiceServer(r, &checkpointServer{checkpoints: deps.Checkpoints})
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

// LongCalls are the methods that are no streams and take as long as one: a reboot may be put off by a day, memory takes long
// to write.
func LongCalls() []string {
	return []string{
		vmletv1.VMService_Reboot_FullMethodName,
		vmletv1.VMService_PowerOff_FullMethodName,
		vmletv1.VMService_CreateSnapshot_FullMethodName,
		vmletv1.VMService_RestoreSnapshot_FullMethodName,
		vmletv1.VMService_DeleteSnapshot_FullMethodName,
		vmletv1.VMService_Resize_FullMethodName,
		vmletv1.VMService_CancelOperation_FullMethodName,
		vmletv1.CheckpointService_CreateCheckpoint_FullMethodName,
		vmletv1.CheckpointService_RestoreCheckpoint_FullMethodName,
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
