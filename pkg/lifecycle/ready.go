// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"

	"github.com/vmlet/vmlet/pkg/vm"
)

// RuntimeReady tells whether VMs can be run now: nil, or Unavailable with the reason.
func (s *Service) RuntimeReady(ctx context.Context) error { return s.deps.Hypervisor.Ready(ctx) }

// NetworkReady tells whether sandboxes can be attached now: nil, or Unavailable with
// the reason.
func (s *Service) NetworkReady(ctx context.Context) error { return s.deps.Network.Ready(ctx) }

// Accel is how guests' CPUs are run; "" until Recover was called.
func (s *Service) Accel() vm.Accel { return *s.accel.Load() }
