// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"context"
	"time"

	"github.com/vmlet/vmlet/pkg/version"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// versionsTimeout is how long libvirt is waited for: who answers is told without it too.
const versionsTimeout = 3 * time.Second

// Version tells who answers. A libvirt that does not answer is part of the answer.
func (s *nodeServer) Version(ctx context.Context, _ *vmletv1.VersionRequest) (*vmletv1.VersionResponse, error) {
	resp := &vmletv1.VersionResponse{
		Version:     version.Version,
		Commit:      version.Commit,
		Accelerator: accelerators[s.accel()],
	}
	ctx, cancel := context.WithTimeout(ctx, versionsTimeout)
	defer cancel()
	libvirt, qemu, err := s.hypervisor.Versions(ctx)
	if err != nil {
		resp.LibvirtError = err.Error()
		return resp, nil
	}
	resp.LibvirtVersion, resp.QemuVersion = libvirt, qemu
	return resp, nil
}
