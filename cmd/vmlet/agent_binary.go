// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
)

// agentName is the file of vmlet-agent beside vmlet.
const agentName = "vmlet-agent"

// agentBinary reads vmlet-agent, for guests whose image lacks it. path "" is the one beside
// vmlet. NotFound if there is none.
func agentBinary(path string) ([]byte, error) {
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find vmlet-agent: %w", err)
		}
		path = filepath.Join(filepath.Dir(self), agentName)
	}
	binary, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no vmlet-agent at %s; put it there, or set guestAgent.binary: %w", path, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("vmlet-agent: %w", err)
	}
	return binary, nil
}
