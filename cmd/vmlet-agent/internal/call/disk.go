// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// diskUse says what uses a disk.
func (s *Server) diskUse(req *agentv1.DiskUseRequest) (*agentv1.Reply, error) {
	use, err := s.Disks.Use(req.GetSerial())
	return &agentv1.Reply{Result: &agentv1.Reply_DiskUse{DiskUse: &agentv1.DiskUse{Use: use}}}, err
}

// growDisk grows what is mounted of a disk.
func (s *Server) growDisk(ctx context.Context, req *agentv1.GrowDiskRequest) (*agentv1.Reply, error) {
	growth, err := s.Disks.Grow(ctx, req.GetSerial(), req.GetSizeBytes())
	return &agentv1.Reply{Result: &agentv1.Reply_DiskGrowth{DiskGrowth: growth}}, err
}
