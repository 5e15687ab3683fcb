// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"errors"

	"github.com/containerd/errdefs"
)

// hasLabels tells whether labels fit a selector: all of its pairs are there.
func hasLabels(labels, selector map[string]string) bool {
	for key, want := range selector {
		if got, ok := labels[key]; !ok || got != want {
			return false
		}
	}
	return true
}

// wholeSandboxID makes the whole ID out of a filter's sandbox ID, which may be a unique
// prefix. An unknown one is returned as it is: it fits nothing.
func (s *Server) wholeSandboxID(id string) (string, error) {
	if id == "" {
		return "", nil
	}
	sb, err := s.svc.Sandbox(id)
	if errors.Is(err, errdefs.ErrNotFound) {
		return id, nil
	}
	return sb.ID, err
}

// wholeContainerID is wholeSandboxID for containers.
func (s *Server) wholeContainerID(id string) (string, error) {
	if id == "" {
		return "", nil
	}
	c, err := s.svc.Container(id)
	if errors.Is(err, errdefs.ErrNotFound) {
		return id, nil
	}
	return c.ID, err
}

// fits tells whether a record's ID is the one that a filter asks for, or it asks for none.
func fits(id, asked string) bool { return asked == "" || asked == id }
