// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/vm"
)

// sparePatience is how long an agent may take to say what memory its guest can spare.
const sparePatience = 5 * time.Second

var memAvailable = regexp.MustCompile(`(?m)^MemAvailable: +([0-9]{1,15}) kB$`)

// needed is the memory that the guest of a VM does not give up without killing processes, in bytes: what it uses and some
// room. Linux gives back all that it can move, also what it needs next. 0 where no agent tells: nobody knows then.
func (s *Service) needed(ctx context.Context, sandboxID string) int64 {
	c, ok := s.liveContainer(sandboxID)
	if !ok || c.Status.State != vm.ContainerRunning || c.Status.Paused || c.Status.Size.MaxMemory == 0 {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, sparePatience)
	defer cancel()
	available, err := s.available(ctx, sandboxID)
	if err != nil {
		log.From(ctx).Debug("what memory the guest can spare is not known", zap.String("sandbox", sandboxID), zap.Error(err))
		return 0
	}
	return c.Status.Size.Memory - available + breath
}

func (s *Service) available(ctx context.Context, sandboxID string) (int64, error) {
	var text bytes.Buffer
	err := s.deps.Guest.ReadFile(ctx, sandboxID, vm.ReadGuestFile{Path: "/proc/meminfo"}, func(vm.GuestFile) (io.Writer, error) {
		return &text, nil
	})
	if err != nil {
		return 0, err
	}
	m := memAvailable.FindSubmatch(text.Bytes())
	if m == nil {
		return 0, fmt.Errorf("/proc/meminfo has no MemAvailable: %w", errdefs.ErrNotFound)
	}
	kib, err := strconv.ParseInt(string(m[1]), 10, 64)
	return kib * vm.KiB, err
}

// spared is what a guest can be brought down to that is to have less memory: not below what it needs, and not above what it
// has.
func spared(size vm.MachineSize, memory, needed int64) int64 {
	if memory >= size.Memory || memory >= needed {
		return memory
	}
	return wholeBlocks(size, min(needed+vm.MemoryBlock-1, size.Memory))
}
