// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

// DefaultExecLimit bounds an ExecSync that asks for no timeout. The CRI says "Default: 0
// (run forever)"; without any bound a probe whose client went away would hold a process
// in the guest, and the agent with it, for as long as the VM lives.
const DefaultExecLimit = 24 * time.Hour

// Config is what the handlers need to know about the node.
type Config struct {
	// Handlers are the names of RuntimeClass handlers that are served beside "", the
	// default one.
	Handlers []string
	// CgroupDriver is "cgroupfs" or "systemd": what RuntimeConfig tells the kubelet.
	CgroupDriver string
	// ExecLimit is the longest that an ExecSync may take, 0 for DefaultExecLimit.
	ExecLimit time.Duration
	// Streams promises the streams of Exec, Attach and PortForward.
	Streams Streams
	// Starting returns why the daemon does not serve yet, nil once it does. Status tells
	// it as the reason of both conditions. A nil function is a daemon that serves.
	Starting func() error
	// Info is what Status tells when asked to be verbose: key to anything that is
	// written as JSON. It holds no secrets. May be nil.
	Info func() map[string]any
}

// Server is both services of the CRI.
type Server struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	runtimeapi.UnimplementedImageServiceServer

	cfg          Config
	cgroupDriver runtimeapi.CgroupDriver
	svc          UseCases

	sandboxItems   *items[vm.Sandbox]
	containerItems *items[vm.Container]
}

var cgroupDrivers = map[string]runtimeapi.CgroupDriver{
	"cgroupfs": runtimeapi.CgroupDriver_CGROUPFS,
	"systemd":  runtimeapi.CgroupDriver_SYSTEMD,
}

// New makes the services. InvalidArgument for an unknown cgroup driver.
func New(cfg Config, svc UseCases) (*Server, error) {
	driver, ok := cgroupDrivers[cfg.CgroupDriver]
	if !ok {
		return nil, fmt.Errorf("cgroup driver %q is neither cgroupfs nor systemd: %w", cfg.CgroupDriver, errdefs.ErrInvalidArgument)
	}
	if cfg.ExecLimit <= 0 {
		cfg.ExecLimit = DefaultExecLimit
	}
	if cfg.Starting == nil {
		cfg.Starting = func() error { return nil }
	}
	if cfg.Info == nil {
		cfg.Info = func() map[string]any { return nil }
	}
	return &Server{
		cfg: cfg, cgroupDriver: driver, svc: svc,
		sandboxItems: newItems(appendSandbox), containerItems: newItems(appendContainer),
	}, nil
}

// Register puts both services on a gRPC server.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	runtimeapi.RegisterRuntimeServiceServer(r, s)
	runtimeapi.RegisterImageServiceServer(r, s)
}

// AlwaysServed are the methods that answer while the daemon is still recovering: they
// touch no sandbox, and a kubelet that starts at the same time needs them. Version is how
// it connects, Status is how it learns what it waits for, and an error of RuntimeConfig,
// which it asks only once, ends it.
func AlwaysServed() []string {
	return []string{
		runtimeapi.RuntimeService_Version_FullMethodName,
		runtimeapi.RuntimeService_Status_FullMethodName,
		runtimeapi.RuntimeService_RuntimeConfig_FullMethodName,
	}
}

// LongCalls are the methods that are no streams and take as long as one: how big an image is, nobody knows, nor a guest's memory.
func LongCalls() []string {
	return []string{
		runtimeapi.ImageService_PullImage_FullMethodName,
		runtimeapi.RuntimeService_CheckpointContainer_FullMethodName,
		runtimeapi.RuntimeService_CheckpointPod_FullMethodName,
		runtimeapi.RuntimeService_RestorePod_FullMethodName,
	}
}

// checkHandler refuses a runtime handler that is not served. The CRI: "If the runtime
// handler is unknown, this request should be rejected."
func (s *Server) checkHandler(name string) error {
	if name == "" || slices.Contains(s.cfg.Handlers, name) {
		return nil
	}
	return invalid("runtime_handler", "%q is unknown; served are %q", name, append([]string{""}, s.cfg.Handlers...))
}
