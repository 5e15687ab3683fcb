// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/streaming"
	"github.com/vmlet/vmlet/pkg/vm"
)

// promiser promises what it was asked for, in words.
type promiser struct{ err error }

func (p promiser) Exec(id string, cmd []string, want streaming.Wanted) (string, error) {
	return fmt.Sprint("exec ", id, cmd, want), p.err
}

func (p promiser) Attach(id string, want streaming.Wanted) (string, error) {
	return fmt.Sprint("attach ", id, want), p.err
}

func (p promiser) PortForward(id string, ports []int32) (string, error) {
	return fmt.Sprint("forward ", id, ports), p.err
}

// streamServer has a running container c1..., one that is not, d1..., and sandboxes s1... that
// is ready and t1... that is not.
func streamServer(t *testing.T) *Server {
	t.Helper()
	svc := newFake()
	svc.containers = []vm.Container{
		{ID: "c1234", Status: vm.ContainerStatus{State: vm.ContainerRunning}},
		{ID: "d1234", Status: vm.ContainerStatus{State: vm.ContainerExited}},
	}
	svc.sandboxes = []vm.Sandbox{
		{ID: "s1234", Status: vm.SandboxStatus{State: vm.SandboxReady}},
		{ID: "t1234", Status: vm.SandboxStatus{State: vm.SandboxNotReady}},
	}
	s := newServer(t, svc)
	s.cfg.Streams = promiser{}
	return s
}

func TestStreamsArePromisedByWholeID(t *testing.T) {
	s := streamServer(t)
	exec, err := s.Exec(t.Context(), &runtimeapi.ExecRequest{ContainerId: "c1", Cmd: []string{"ls", "-l"}, Stdout: true, Stderr: true})
	if want := "exec c1234[ls -l] {false true true false}"; err != nil || exec.GetUrl() != want {
		t.Errorf("Exec: %q, %v, want %q", exec.GetUrl(), err, want)
	}
	attach, err := s.Attach(t.Context(), &runtimeapi.AttachRequest{ContainerId: "c1", Stdin: true, Stdout: true, Tty: true})
	if want := "attach c1234{true true false true}"; err != nil || attach.GetUrl() != want {
		t.Errorf("Attach: %q, %v, want %q", attach.GetUrl(), err, want)
	}
	forward, err := s.PortForward(t.Context(), &runtimeapi.PortForwardRequest{PodSandboxId: "s1", Port: []int32{80, 65535}})
	if want := "forward s1234[80 65535]"; err != nil || forward.GetUrl() != want {
		t.Errorf("PortForward: %q, %v, want %q", forward.GetUrl(), err, want)
	}
}

func TestStreamsThatAreRefused(t *testing.T) {
	s := streamServer(t)
	cmd := []string{"x"}
	for name, tt := range map[string]struct {
		call  func() error
		class error
		want  string
	}{
		"exec without a container": {func() error {
			_, err := s.Exec(t.Context(), &runtimeapi.ExecRequest{Cmd: cmd, Stdout: true})
			return err
		}, errdefs.ErrInvalidArgument, "container_id"},
		"exec without a command": {func() error {
			_, err := s.Exec(t.Context(), &runtimeapi.ExecRequest{ContainerId: "c1", Stdout: true})
			return err
		}, errdefs.ErrInvalidArgument, "cmd"},
		"exec with a terminal and stderr": {func() error {
			_, err := s.Exec(t.Context(), &runtimeapi.ExecRequest{ContainerId: "c1", Cmd: cmd, Stdout: true, Stderr: true, Tty: true})
			return err
		}, errdefs.ErrInvalidArgument, "stderr"},
		"exec without streams": {func() error {
			_, err := s.Exec(t.Context(), &runtimeapi.ExecRequest{ContainerId: "c1", Cmd: cmd})
			return err
		}, errdefs.ErrInvalidArgument, "must be true"},
		"exec in what does not run": {func() error {
			_, err := s.Exec(t.Context(), &runtimeapi.ExecRequest{ContainerId: "d1", Cmd: cmd, Stdout: true})
			return err
		}, errdefs.ErrFailedPrecondition, "not running"},
		"attach with a terminal and stderr": {func() error {
			_, err := s.Attach(t.Context(), &runtimeapi.AttachRequest{ContainerId: "c1", Stderr: true, Tty: true})
			return err
		}, errdefs.ErrInvalidArgument, "stderr"},
		"attach without streams": {func() error {
			_, err := s.Attach(t.Context(), &runtimeapi.AttachRequest{ContainerId: "c1"})
			return err
		}, errdefs.ErrInvalidArgument, "must be true"},
		"attach to what does not run": {func() error {
			_, err := s.Attach(t.Context(), &runtimeapi.AttachRequest{ContainerId: "d1", Stdout: true})
			return err
		}, errdefs.ErrFailedPrecondition, "not running"},
		"attach to nothing": {func() error {
			_, err := s.Attach(t.Context(), &runtimeapi.AttachRequest{ContainerId: "x", Stdout: true})
			return err
		}, errdefs.ErrNotFound, "x"},
		"forward to no sandbox": {func() error {
			_, err := s.PortForward(t.Context(), &runtimeapi.PortForwardRequest{})
			return err
		}, errdefs.ErrInvalidArgument, "pod_sandbox_id"},
		"forward to a sandbox that is not ready": {func() error {
			_, err := s.PortForward(t.Context(), &runtimeapi.PortForwardRequest{PodSandboxId: "t1"})
			return err
		}, errdefs.ErrFailedPrecondition, "not ready"},
		"forward to no port": {func() error {
			_, err := s.PortForward(t.Context(), &runtimeapi.PortForwardRequest{PodSandboxId: "s1", Port: []int32{80, 0}})
			return err
		}, errdefs.ErrInvalidArgument, "port[1]"},
		"forward to more than a port": {func() error {
			_, err := s.PortForward(t.Context(), &runtimeapi.PortForwardRequest{PodSandboxId: "s1", Port: []int32{65536}})
			return err
		}, errdefs.ErrInvalidArgument, "port[0]"},
	} {
		t.Run(name, func(t *testing.T) { wantClass(t, tt.call(), tt.class, tt.want) })
	}
}

func TestStreamsWithoutAPlaceForThem(t *testing.T) {
	s := streamServer(t)
	s.cfg.Streams = promiser{fmt.Errorf("too many wait: %w", errdefs.ErrResourceExhausted)}
	_, errExec := s.Exec(t.Context(), &runtimeapi.ExecRequest{ContainerId: "c1", Cmd: []string{"x"}, Stdout: true})
	_, errAttach := s.Attach(t.Context(), &runtimeapi.AttachRequest{ContainerId: "c1", Stdout: true})
	_, errForward := s.PortForward(t.Context(), &runtimeapi.PortForwardRequest{PodSandboxId: "s1"})
	for _, err := range []error{errExec, errAttach, errForward} {
		if err == nil || !strings.Contains(err.Error(), "too many wait") {
			t.Errorf("error = %v", err)
		}
	}
}
