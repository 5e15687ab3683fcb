// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// node is a vmlet in memory: it keeps what it is told, and does what a test asks of it.
type node struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	runtimeapi.UnimplementedImageServiceServer

	mu         sync.Mutex
	calls      []string // the mutating ones, as "Method argument"
	sandboxes  []*runtimeapi.PodSandboxStatus
	containers []*boot
	images     []*runtimeapi.Image
	info       string // of a verbose status of a sandbox, "" for a plain one
	persistent []*vmletv1.Disk
	ran        *runtimeapi.PodSandboxConfig // what the last RunPodSandbox asked for
	created    *runtimeapi.ContainerConfig  // and the last CreateContainer
	imported   string                       // "name content" of the last import
	exec       func(ctx context.Context, req *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error)
	checks     []*vmletv1.Check
	operations []*vmletv1.Operation // what a watch of one is told; none for a vmlet that knows none
	inside     inside
	console    func(vmletv1.VMService_ConsoleServer) error
	vnc        func(vmletv1.VMService_VNCServer) error

	// before runs at the beginning of each call, by method; its error is the call's.
	before map[string]func(context.Context) error
}

// boot is a container of the node.
type boot struct {
	status  *runtimeapi.ContainerStatus
	sandbox string
}

func (n *node) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if err := n.begin(ctx, path.Base(info.FullMethod)); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

func (n *node) interceptStream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if err := n.begin(s.Context(), path.Base(info.FullMethod)); err != nil {
		return err
	}
	return handler(srv, s)
}

func (n *node) begin(ctx context.Context, method string) error {
	n.mu.Lock()
	hook := n.before[method]
	n.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(ctx)
}

// on sets what happens at the beginning of a method.
func (n *node) on(method string, hook func(context.Context) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.before == nil {
		n.before = map[string]func(context.Context) error{}
	}
	n.before[method] = hook
}

func (n *node) fail(method string, code codes.Code, text string) {
	n.on(method, func(context.Context) error { return status.Error(code, text) })
}

func (n *node) note(format string, args ...any) {
	n.calls = append(n.calls, strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (n *node) called() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.calls)
}

// change does something to a container, as the guest or a crash would.
func (n *node) change(id string, do func(*runtimeapi.ContainerStatus)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if b := n.boot(id); b != nil {
		do(b.status)
	}
}

func (n *node) boot(id string) *boot {
	for _, b := range n.containers {
		if b.status.GetId() == id {
			return b
		}
	}
	return nil
}

func (n *node) ListPodSandbox(context.Context, *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	resp := &runtimeapi.ListPodSandboxResponse{}
	for _, s := range n.sandboxes {
		resp.Items = append(resp.Items, &runtimeapi.PodSandbox{
			Id: s.GetId(), Metadata: s.GetMetadata(), State: s.GetState(), CreatedAt: s.GetCreatedAt(), Labels: s.GetLabels(),
		})
	}
	return resp, nil
}

func (n *node) PodSandboxStatus(_ context.Context, req *runtimeapi.PodSandboxStatusRequest) (*runtimeapi.PodSandboxStatusResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.sandboxes {
		if s.GetId() == req.GetPodSandboxId() {
			resp := &runtimeapi.PodSandboxStatusResponse{Status: proto.CloneOf(s)}
			if req.GetVerbose() {
				resp.Info = map[string]string{"info": `{"domain":"vmlet-` + short(s.GetId()) + `","uuid":"u","hostname":"h",` +
					`"nics":[{"name":"eth0","mac":"02:00:00:00:00:01"}],"disks":[{"path":"/var/lib/vmlet/root.qcow2"}]}`}
				if n.info != "" {
					resp.Info["info"] = n.info
				}
			}
			return resp, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "sandbox %q: not found", req.GetPodSandboxId())
}

func (n *node) ListContainers(context.Context, *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	resp := &runtimeapi.ListContainersResponse{}
	for _, b := range n.containers {
		resp.Containers = append(resp.Containers, &runtimeapi.Container{
			Id: b.status.GetId(), PodSandboxId: b.sandbox, Metadata: b.status.GetMetadata(), State: b.status.GetState(),
			CreatedAt: b.status.GetCreatedAt(), Image: b.status.GetImage(), ImageId: b.status.GetImageId(),
		})
	}
	return resp, nil
}

func (n *node) ContainerStatus(_ context.Context, req *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	b := n.boot(req.GetContainerId())
	if b == nil {
		return nil, status.Errorf(codes.NotFound, "container %q: not found", req.GetContainerId())
	}
	return &runtimeapi.ContainerStatusResponse{Status: proto.CloneOf(b.status)}, nil
}

func (n *node) RunPodSandbox(_ context.Context, req *runtimeapi.RunPodSandboxRequest) (*runtimeapi.RunPodSandboxResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	config := req.GetConfig()
	n.note("RunPodSandbox %s/%s", config.GetMetadata().GetNamespace(), config.GetMetadata().GetName())
	n.ran = config
	const id = "5a000000000000000000000000000001"
	n.sandboxes = append(n.sandboxes, &runtimeapi.PodSandboxStatus{
		Id: id, Metadata: config.GetMetadata(), State: runtimeapi.PodSandboxState_SANDBOX_READY,
		Network: &runtimeapi.PodSandboxNetworkStatus{Ip: "10.88.0.7"}, Labels: config.GetLabels(),
	})
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: id}, nil
}

func (n *node) CreateContainer(_ context.Context, req *runtimeapi.CreateContainerRequest) (*runtimeapi.CreateContainerResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note("CreateContainer %s", short(req.GetPodSandboxId()))
	n.created = req.GetConfig()
	const id = "c0000000000000000000000000000001"
	n.containers = append(n.containers, &boot{sandbox: req.GetPodSandboxId(), status: &runtimeapi.ContainerStatus{
		Id: id, Metadata: req.GetConfig().GetMetadata(), State: runtimeapi.ContainerState_CONTAINER_CREATED,
		LogPath: filepath.Join(req.GetSandboxConfig().GetLogDirectory(), req.GetConfig().GetLogPath()),
	}})
	return &runtimeapi.CreateContainerResponse{ContainerId: id}, nil
}

func (n *node) StartContainer(_ context.Context, req *runtimeapi.StartContainerRequest) (*runtimeapi.StartContainerResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note("StartContainer %s", short(req.GetContainerId()))
	n.boot(req.GetContainerId()).status.State = runtimeapi.ContainerState_CONTAINER_RUNNING
	return &runtimeapi.StartContainerResponse{}, nil
}

func (n *node) StopContainer(_ context.Context, req *runtimeapi.StopContainerRequest) (*runtimeapi.StopContainerResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note("StopContainer %s %d", short(req.GetContainerId()), req.GetTimeout())
	return &runtimeapi.StopContainerResponse{}, nil
}

func (n *node) StopPodSandbox(_ context.Context, req *runtimeapi.StopPodSandboxRequest) (*runtimeapi.StopPodSandboxResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note("StopPodSandbox %s", short(req.GetPodSandboxId()))
	return &runtimeapi.StopPodSandboxResponse{}, nil
}

func (n *node) RemovePodSandbox(_ context.Context, req *runtimeapi.RemovePodSandboxRequest) (*runtimeapi.RemovePodSandboxResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note("RemovePodSandbox %s", short(req.GetPodSandboxId()))
	n.sandboxes = slices.DeleteFunc(n.sandboxes, func(s *runtimeapi.PodSandboxStatus) bool { return s.GetId() == req.GetPodSandboxId() })
	n.containers = slices.DeleteFunc(n.containers, func(b *boot) bool { return b.sandbox == req.GetPodSandboxId() })
	return &runtimeapi.RemovePodSandboxResponse{}, nil
}

func (n *node) ExecSync(ctx context.Context, req *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
	n.mu.Lock()
	n.note("ExecSync %s %d %q", short(req.GetContainerId()), req.GetTimeout(), req.GetCmd())
	exec := n.exec
	n.mu.Unlock()
	if exec == nil {
		return &runtimeapi.ExecSyncResponse{}, nil
	}
	return exec(ctx, req)
}

func (n *node) ListImages(context.Context, *runtimeapi.ListImagesRequest) (*runtimeapi.ListImagesResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return &runtimeapi.ListImagesResponse{Images: n.images}, nil
}

func (n *node) ImageStatus(_ context.Context, req *runtimeapi.ImageStatusRequest) (*runtimeapi.ImageStatusResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, img := range n.images {
		if slices.Contains(append(img.GetRepoTags(), img.GetId()), req.GetImage().GetImage()) {
			return &runtimeapi.ImageStatusResponse{Image: img}, nil
		}
	}
	return &runtimeapi.ImageStatusResponse{}, nil
}

func (n *node) RemoveImage(_ context.Context, req *runtimeapi.RemoveImageRequest) (*runtimeapi.RemoveImageResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note("RemoveImage %s", req.GetImage().GetImage())
	return &runtimeapi.RemoveImageResponse{}, nil
}

// store is the node's vmlet.v1.ImageService.
type store struct {
	vmletv1.UnimplementedImageServiceServer

	*node
}

const pulledID = "sha256:a11ce00000000000000000000000000000000000000000000000000000000000"

func (s store) PullImage(req *vmletv1.PullImageRequest, stream grpc.ServerStreamingServer[vmletv1.PullImageResponse]) error {
	s.mu.Lock()
	s.note("PullImage %s", req.GetImage())
	s.mu.Unlock()
	for _, p := range []*vmletv1.PullProgress{
		{Phase: vmletv1.PullPhase_PULL_PHASE_RESOLVING},
		{Phase: vmletv1.PullPhase_PULL_PHASE_DOWNLOADING, DoneBytes: 1 << 20, TotalBytes: 20 << 20},
		{Phase: vmletv1.PullPhase_PULL_PHASE_DOWNLOADING, DoneBytes: 20 << 20, TotalBytes: 20 << 20},
		{Phase: vmletv1.PullPhase_PULL_PHASE_VERIFYING, DoneBytes: 20 << 20, TotalBytes: 20 << 20},
		{Phase: vmletv1.PullPhase_PULL_PHASE_DONE, DoneBytes: 20 << 20, TotalBytes: 20 << 20},
	} {
		if err := stream.Send(&vmletv1.PullImageResponse{Event: &vmletv1.PullImageResponse_Progress{Progress: p}}); err != nil {
			return err
		}
	}
	return stream.Send(&vmletv1.PullImageResponse{Event: &vmletv1.PullImageResponse_Image{Image: &vmletv1.Image{
		Id: pulledID, RepoTags: []string{"registry.example/tiny:latest"}, RepoDigests: []string{"registry.example/tiny@sha256:beef"},
		SizeBytes: 20 << 20, VirtualSizeBytes: 1 << 30, Format: vmletv1.DiskFormat_DISK_FORMAT_QCOW2,
	}}})
}

func (s store) ImportImage(stream grpc.ClientStreamingServer[vmletv1.ImportImageRequest, vmletv1.ImportImageResponse]) error {
	var name string
	var content []byte
	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if msg.GetName() == "refused" {
			return status.Error(codes.InvalidArgument, "import refused: no name\nreally")
		}
		name += msg.GetName()
		content = append(content, msg.GetChunk()...)
	}
	s.mu.Lock()
	s.imported = fmt.Sprintf("%s %s", name, content)
	s.mu.Unlock()
	return stream.SendAndClose(&vmletv1.ImportImageResponse{Image: &vmletv1.Image{
		Id: pulledID, RepoTags: []string{name + ":latest"}, SizeBytes: int64(len(content)), Format: vmletv1.DiskFormat_DISK_FORMAT_RAW,
	}})
}

// disks is the node's vmlet.v1.DiskService.
type disks struct {
	vmletv1.UnimplementedDiskServiceServer

	*node
}

func (d disks) ListDisks(context.Context, *vmletv1.ListDisksRequest) (*vmletv1.ListDisksResponse, error) {
	return &vmletv1.ListDisksResponse{Disks: d.persistent}, nil
}

func (d disks) RemoveDisk(_ context.Context, req *vmletv1.RemoveDiskRequest) (*vmletv1.RemoveDiskResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.ContainsFunc(d.persistent, func(p *vmletv1.Disk) bool { return p.GetName() == req.GetName() }) {
		return nil, status.Errorf(codes.NotFound, "there is no disk %q: not found", req.GetName())
	}
	d.note("RemoveDisk %s", req.GetName())
	return &vmletv1.RemoveDiskResponse{}, nil
}

// vms is the node's vmlet.v1.VMService.
type vms struct {
	vmletv1.UnimplementedVMServiceServer

	*node
}

func (v vms) Reboot(_ context.Context, req *vmletv1.RebootRequest) (*vmletv1.RebootResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.note("Reboot %s %s after %d ms within %d ms", req.GetVm(), req.GetMode(), req.GetDelayMs(), req.GetWaitMs())
	if req.GetMode() == vmletv1.RebootMode_REBOOT_MODE_RESET {
		return &vmletv1.RebootResponse{Mode: req.GetMode()}, nil
	}
	return &vmletv1.RebootResponse{Mode: vmletv1.RebootMode_REBOOT_MODE_AGENT, BootIdBefore: "boot-0", BootId: "boot-1"}, nil
}

func (v vms) Pause(_ context.Context, req *vmletv1.PauseRequest) (*vmletv1.PauseResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.note("Pause %s", req.GetVm())
	return &vmletv1.PauseResponse{}, nil
}

func (v vms) Resume(_ context.Context, req *vmletv1.ResumeRequest) (*vmletv1.ResumeResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.note("Resume %s", req.GetVm())
	return &vmletv1.ResumeResponse{}, nil
}

func (v vms) Resize(_ context.Context, req *vmletv1.ResizeRequest) (*vmletv1.ResizeResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.note("Resize %s to %d CPUs and %d bytes on %q of %q with %d within %d ms", req.GetVm(), req.GetCpus(), req.GetMemoryBytes(),
		req.GetCpusetCpus(), req.GetCpusetMems(), req.GetCpuShares(), req.GetWaitMs())
	applied := vmletv1.ResizeOutcome_RESIZE_OUTCOME_APPLIED
	resp := &vmletv1.ResizeResponse{
		GuestCpus: 4, Cpus: &vmletv1.ResizedNumber{Before: 2, After: 2}, MemoryBytes: &vmletv1.ResizedNumber{Before: 1 << 30, After: 1 << 30},
		CpusetCpus: &vmletv1.ResizedSet{},
	}
	if n := int64(req.GetCpus()); n != 0 {
		resp.Cpus = &vmletv1.ResizedNumber{Before: 2, After: n, Requested: n, Outcome: applied}
	}
	if n := req.GetMemoryBytes(); n != 0 {
		resp.MemoryBytes = &vmletv1.ResizedNumber{Before: 1 << 30, After: n, Requested: n, Outcome: applied}
		if n < 1<<30 {
			resp.MemoryBytes = &vmletv1.ResizedNumber{Before: 1 << 30, After: 700 << 20, Requested: n,
				Outcome: vmletv1.ResizeOutcome_RESIZE_OUTCOME_PARTLY, Detail: "the guest has given back memory down to 700 MiB in the time it had"}
		}
	}
	if set := req.GetCpusetCpus(); set != "" {
		resp.CpusetCpus = &vmletv1.ResizedSet{After: set, Requested: set, Outcome: applied}
	}
	return resp, nil
}

// health is the node's vmlet.v1.NodeService.
type health struct {
	vmletv1.UnimplementedNodeServiceServer

	*node
}

func (h health) Doctor(context.Context, *vmletv1.DoctorRequest) (*vmletv1.DoctorResponse, error) {
	return &vmletv1.DoctorResponse{Checks: h.checks}, nil
}

func (health) Version(context.Context, *vmletv1.VersionRequest) (*vmletv1.VersionResponse, error) {
	return &vmletv1.VersionResponse{
		Version: "1.2.3", Commit: "c0ffee", LibvirtVersion: "9.0.0", QemuVersion: "7.2.19",
		Accelerator: vmletv1.Accelerator_ACCELERATOR_TCG,
	}, nil
}

func (v vms) AttachDisk(_ context.Context, req *vmletv1.AttachDiskRequest) (*vmletv1.AttachDiskResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.note("AttachDisk %s %s", req.GetVm(), strings.ReplaceAll(strings.Join(strings.Fields(fmt.Sprint(req)), " "), req.GetVm(), "VM"))
	return &vmletv1.AttachDiskResponse{Serial: req.GetName(), Target: "vdc", SizeBytes: max(req.GetSizeBytes(), 1<<20)}, nil
}

func (v vms) DetachDisk(_ context.Context, req *vmletv1.DetachDiskRequest) (*vmletv1.DetachDiskResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.note("DetachDisk %s %s delete %t within %d ms", req.GetVm(), req.GetName(), req.GetDelete(), req.GetWaitMs())
	return &vmletv1.DetachDiskResponse{}, nil
}

func (v vms) ResizeDisk(_ context.Context, req *vmletv1.ResizeDiskRequest) (*vmletv1.ResizeDiskResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.note("ResizeDisk %s %s to %d grow %t", req.GetVm(), req.GetName(), req.GetSizeBytes(), req.GetGrowFileSystem())
	return &vmletv1.ResizeDiskResponse{
		SizeBytesBefore: 1 << 30, SizeBytes: 2 << 30,
		FileSystem: vmletv1.FileSystemGrowth_FILE_SYSTEM_GROWTH_GROWN, FileSystemDetail: "ext4 on /dev/vdc at /data has 2040373248 bytes",
	}, nil
}

func (vms) ListVMDisks(context.Context, *vmletv1.ListVMDisksRequest) (*vmletv1.ListVMDisksResponse, error) {
	return &vmletv1.ListVMDisksResponse{Disks: []*vmletv1.VMDisk{
		{
			Name: "root", Role: vmletv1.VMDiskRole_VM_DISK_ROLE_ROOT, State: vmletv1.VMDiskState_VM_DISK_STATE_ATTACHED,
			SizeBytes: 20 << 30, AllocatedBytes: 700 << 20, Bus: vmletv1.DiskBus_DISK_BUS_VIRTIO, Target: "vda", Serial: "root", Owned: true,
			Layers: []*vmletv1.DiskLayer{
				{Path: "/var/lib/vmlet/sandboxes/1/root.qcow2", Format: vmletv1.DiskFormat_DISK_FORMAT_QCOW2, AllocatedBytes: 700 << 20},
				{Path: "/var/lib/vmlet/images/1", Format: vmletv1.DiskFormat_DISK_FORMAT_RAW, AllocatedBytes: 2 << 30, Shared: true},
			},
		},
		{
			Name: "dump", Role: vmletv1.VMDiskRole_VM_DISK_ROLE_DATA, State: vmletv1.VMDiskState_VM_DISK_STATE_ATTACHED,
			SizeBytes: 1 << 30, Bus: vmletv1.DiskBus_DISK_BUS_SCSI, Target: "sdc", Serial: "dump", ReadOnly: true, Problem: "its file is gone",
			Layers: []*vmletv1.DiskLayer{{Path: "/srv/dump", Format: vmletv1.DiskFormat_DISK_FORMAT_RAW}},
		},
	}}, nil
}
