// SPDX-License-Identifier: Apache-2.0

package lifecycle

import "github.com/vmlet/vmlet/pkg/vm"

// NewsKept is how many events can be read again.
const NewsKept = newsKept

// Tell tells watchers of something, as a use case does.
func (s *Service) Tell(e vm.VMEvent) { s.tell(e) }
