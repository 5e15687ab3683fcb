// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"testing"

	"github.com/vmlet/vmlet/tests/harness"
)

// TestArktosVMCallsKilledAtEveryStep: vmlet is killed at the failpoints that the node agent's calls for a VM pass. They are those of the
// use cases, so a run looks at every fourth: TestKilledAtEveryStepOfASnapshot and TestKilledAtEveryStepOfAReboot look at each.
func TestArktosVMCallsKilledAtEveryStep(t *testing.T) {
	k := newKiller(t)
	k.every = 4
	node := harness.StartNode(t, k.watched())
	k.node = node
	agent := newNodeAgent(t, node)
	s := newSnapshotted(t, node, "killed")
	s.write("kept")
	if err := agent.snapshot(t.Context(), s.ContainerID, "kept"); err != nil {
		t.Fatal(err)
	}
	var boot string
	k.survives(s.Running, []killedCall{
		{"RebootVM", func() { boot = s.BootID() }, func() error {
			waitRebooted(node, s.Running) // by the call that was cut short
			return agent.reboot(t.Context(), s.ContainerID, nil)
		}, func() {
			if now := s.BootID(); now == boot {
				t.Errorf("the guest is in boot %s as before", now)
			}
		}},
		{"CreateSnapshot", func() { s.write("now") }, func() error { return agent.snapshot(t.Context(), s.ContainerID, "new") }, func() {
			s.holds("now")
			s.mustRemove("new")
		}},
		{"RestoreToSnapshot", func() { s.write("gone") }, func() error { return agent.restore(t.Context(), s.ContainerID, "kept") }, func() { s.holds("kept") }},
	})
	s.mustRemove("kept")
	s.only()
}
