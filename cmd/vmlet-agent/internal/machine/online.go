// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// Online brings CPUs and memory into use that were plugged, and tells how many. What the
// kernel refuses does not keep it from the others.
func (m *Machine) Online() (*agentv1.Onlined, error) {
	cpus, err := m.switchOn("sys/devices/system/cpu/cpu[0-9]*/online", "0", "1")
	blocks, memErr := m.switchOn("sys/devices/system/memory/memory[0-9]*/state", "offline", "online")
	return &agentv1.Onlined{Cpus: cpus, MemoryBlocks: blocks}, errors.Join(err, memErr)
}

// switchOn writes on into all files that hold off, and counts them.
func (m *Machine) switchOn(pattern, off, on string) (n uint32, err error) {
	files, err := filepath.Glob(m.path(pattern))
	if err != nil {
		return 0, err
	}
	var failed error
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil || string(b) != off+"\n" {
			continue // gone, or in use already
		}
		if err := os.WriteFile(file, []byte(on), 0); err != nil {
			failed = fmt.Errorf("bring %s into use: %w", filepath.Base(filepath.Dir(file)), err)
			continue
		}
		n++
	}
	return n, failed
}
