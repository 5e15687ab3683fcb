// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestAClosedGateNamesItsKeyAndHandler(t *testing.T) {
	s := New(t.Context(), Config{Gates: Gates{
		"":       {vm.GateConsole: true},
		"locked": {vm.GateNICAdd: true, vm.GateSnapshots: true},
	}}, Deps{})
	for _, tc := range []struct {
		handler string
		gate    vm.Gate
		closed  bool
	}{
		{"", vm.GateConsole, true},
		{"", vm.GateNICAdd, false},
		{"locked", vm.GateNICAdd, true},
		{"locked", vm.GateNICRemove, false},
		{"locked", vm.GateConsole, false},
		{"gone since", vm.GateConsole, true},
		{"gone since", vm.GateNICAdd, false},
	} {
		err := s.gate(vm.Sandbox{Spec: vm.SandboxSpec{RuntimeHandler: tc.handler}}, tc.gate)
		if tc.closed != (err != nil) {
			t.Errorf("%s of %q: %v", tc.gate, tc.handler, err)
		}
		if err == nil {
			continue
		}
		if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "gates."+string(tc.gate)) || !strings.Contains(err.Error(), `"`+tc.handler+`"`) {
			t.Errorf("%s of %q: %v", tc.gate, tc.handler, err)
		}
	}
	s.SetGates(Gates{})
	if err := s.gate(vm.Sandbox{}, vm.GateConsole); err != nil {
		t.Errorf("opened by a reload: %v", err)
	}
}
