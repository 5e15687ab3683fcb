// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/streaming"
	"github.com/vmlet/vmlet/pkg/vm"
)

// Attach promises the streams of the container's command, or of the serial console where
// there is none.
func (s *Server) Attach(_ context.Context, req *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	want := streaming.Wanted{Stdin: req.GetStdin(), Stdout: req.GetStdout(), Stderr: req.GetStderr(), TTY: req.GetTty()}
	if err := checkWanted(want); err != nil {
		return nil, err
	}
	id, err := s.runningContainer(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	url, err := s.cfg.Streams.Attach(id, want)
	if err != nil {
		return nil, err
	}
	return &runtimeapi.AttachResponse{Url: url}, nil
}

// runningContainer is the whole ID of a container that runs. Whoever opens the streams later
// finds out again whether it does; this is for who asks.
func (s *Server) runningContainer(ref string) (id string, err error) {
	if err := checkID("container_id", ref); err != nil {
		return "", err
	}
	c, err := s.svc.Container(ref)
	if err != nil {
		return "", err
	}
	if c.Status.State != vm.ContainerRunning {
		return "", fmt.Errorf("container %s is %s, not running: %w", c.ID, c.Status.State, errdefs.ErrFailedPrecondition)
	}
	if c.Status.Off() {
		return "", fmt.Errorf("container %s: its VM is powered off; power it on first (vmletctl power on): %w", c.ID, errdefs.ErrFailedPrecondition)
	}
	return c.ID, nil
}
