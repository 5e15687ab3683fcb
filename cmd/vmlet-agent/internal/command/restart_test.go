// SPDX-License-Identifier: Apache-2.0

package command_test

import (
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/command"
)

func TestAnExitIsHeldOverARestartOfTheAgent(t *testing.T) {
	g := newGuest(t)
	g.start(t, "a", "exit 5")
	want := g.wait(t, "a")
	g.restart(t)
	if got := g.wait(t, "a"); got.GetExit().GetCode() != 5 || got.GetExit().GetAtUnixNano() != want.GetExit().GetAtUnixNano() {
		t.Errorf("got %v, want %v", got, want)
	}
	if err := g.Ack("a"); err != nil {
		t.Fatal(err)
	}
	g.restart(t)
	if _, err := g.Wait(t.Context(), "a"); !errdefs.IsNotFound(err) {
		t.Errorf("after the acknowledgement: %v", err)
	}
}

func TestACommandEndsWithItsAgent(t *testing.T) {
	g := newGuest(t)
	g.start(t, "a b", "sleep 1000 & wait")
	old := g.Runner
	g.restart(t)
	for _, r := range []*command.Runner{g.Runner, old} {
		g.Runner = r
		if exit := g.wait(t, "a b").GetExit(); exit.GetCode() != 137 || exit.GetSignal() != 9 {
			t.Errorf("%v", exit)
		}
	}
}
