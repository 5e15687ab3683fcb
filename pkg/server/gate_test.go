// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestTheGateTellsWhatItWaitsFor(t *testing.T) {
	g := NewGate()
	g.Waiting(errors.New("libvirt does not answer"))
	if err := g.Err(); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "libvirt does not answer") {
		t.Errorf("error = %v", err)
	}
	g.Open()
	if err := g.Err(); err != nil {
		t.Errorf("error = %v after it was opened", err)
	}
}
