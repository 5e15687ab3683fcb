// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"time"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Clients take the youngest attempt for the present one: kubelet sorts by created_at. So an attempt is younger than those
// before it also where the clock was set back between them; else kubelet would start attempts over and over.

// sandboxCreatedAt is now, or just after the last attempt of the same pod.
func (s *Service) sandboxCreatedAt(spec vm.SandboxSpec) time.Time {
	at := s.now()
	for _, sb := range s.deps.Store.Sandboxes.All() {
		if sb.Spec.Pod() == spec.Pod() && sb.Spec.UID == spec.UID {
			at = after(at, sb.CreatedAt)
		}
	}
	return at
}

// containerCreatedAt is now, or just after the last container of the sandbox.
func (s *Service) containerCreatedAt(sandboxID string) time.Time {
	at := s.now()
	for _, c := range s.containersOf(sandboxID) {
		at = after(at, c.CreatedAt)
	}
	return at
}

func after(at, last time.Time) time.Time {
	if at.After(last) {
		return at
	}
	return last.Add(time.Nanosecond)
}
