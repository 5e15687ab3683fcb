// SPDX-License-Identifier: Apache-2.0

package arktos

import (
	"context"
	"fmt"
	"slices"

	"github.com/vmlet/vmlet/pkg/vm"
	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
)

// CreateSnapshot takes a snapshot of a VM: with its memory while it runs, as libvirt's own snapshot of a running domain, and
// of its disk while it is powered off. It goes on when its caller's deadline is over.
func (s *Server) CreateSnapshot(ctx context.Context, req *arktosv1alpha2.CreateSnapshotRequest) (*arktosv1alpha2.CreateSnapshotResponse, error) {
	if err := checkSnapshot(req.GetVmID(), req.GetSnapshotID(), req.GetFlags()); err != nil {
		return nil, err
	}
	c, err := s.svc.Container(req.GetVmID())
	if err != nil {
		return nil, err
	}
	if _, err := s.svc.CreateSnapshot(ctx, c.SandboxID, vm.SnapshotRequest{Name: req.GetSnapshotID(), Memory: s.runs(c.SandboxID)}); err != nil {
		return nil, err
	}
	return &arktosv1alpha2.CreateSnapshotResponse{}, nil
}

// runs tells whether a sandbox's VM runs: the container by which the node agent knows it may be one that has exited since.
func (s *Server) runs(sandboxID string) bool {
	return slices.ContainsFunc(s.svc.Containers(), func(c *vm.Container) bool { return c.SandboxID == sandboxID && c.Status.Runs() })
}

// RestoreToSnapshot puts a VM back to a snapshot: to where it was, memory included, if that was taken. It goes on when its
// caller's deadline is over.
func (s *Server) RestoreToSnapshot(ctx context.Context, req *arktosv1alpha2.RestoreToSnapshotRequest) (*arktosv1alpha2.RestoreToSnapshotResponse, error) {
	if err := checkSnapshot(req.GetVmID(), req.GetSnapshotID(), req.GetFlags()); err != nil {
		return nil, err
	}
	if err := s.svc.RestoreSnapshot(ctx, req.GetVmID(), vm.RestoreRequest{Name: req.GetSnapshotID()}); err != nil {
		return nil, err
	}
	return &arktosv1alpha2.RestoreToSnapshotResponse{}, nil
}

func checkSnapshot(vmID, name string, flags int64) error {
	if vmID == "" {
		return invalid("vmID", "must not be empty: the ID of a container")
	}
	if err := vm.CheckSnapshotName(name); err != nil {
		return fmt.Errorf("snapshotID: %w", err)
	}
	if flags != 0 {
		return invalid("flags", "%d is not known, 0 is", flags)
	}
	return nil
}
