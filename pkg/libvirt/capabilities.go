// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"fmt"
)

// Versions are those of the software that runs our domains, as "9.0.0".
type Versions struct {
	Libvirt string
	QEMU    string
}

// Versions asks libvirt for its own version and that of its QEMU.
func (h *Hypervisor) Versions(ctx context.Context) (Versions, error) {
	return call(ctx, h.eventConn, "ask for versions", "", func(s *session) (Versions, error) {
		daemon, err := s.GetLibVersion()
		if err != nil {
			return Versions{}, fmt.Errorf("libvirt: %w", err)
		}
		qemu, err := s.GetVersion()
		if err != nil {
			return Versions{}, fmt.Errorf("QEMU: %w", err)
		}
		return Versions{Libvirt: versionString(daemon), QEMU: versionString(qemu)}, nil
	})
}

// versionString writes libvirt's number 1,000,000 * major + 1,000 * minor + release.
func versionString(v uint32) string {
	return fmt.Sprintf("%d.%d.%d", v/1_000_000, v/1_000%1_000, v%1_000)
}
