// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

// sampled waits for a container's first sample.
func (w *world) sampled(ctx context.Context, containerID string) vm.Stats {
	w.t.Helper()
	for {
		st, err := w.svc.Stats(containerID)
		if err == nil {
			return st
		}
		if ctx.Err() != nil {
			w.t.Fatalf("container %s was not sampled: %v", containerID, err)
		}
		time.Sleep(time.Millisecond) // samples come by themselves, without an event
	}
}

func TestAContainerThatEndsWhileItIsSampledLeavesNoSample(t *testing.T) {
	w := newWorld(t)
	release := w.disks.Block("Usage")
	sb, c := w.running("a")
	if err := w.disks.WaitCall(t.Context(), "Usage "+sb); err != nil {
		t.Fatal(err)
	}
	w.hypervisor.PowerOff(sb)
	w.exit(c)
	release()
	_, other := w.running("b") // a round after that one
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	w.sampled(ctx, other)
	if slices.ContainsFunc(w.svc.AllStats(), func(st vm.Stats) bool { return st.ContainerID == c }) {
		t.Error("there are statistics of a container that has exited")
	}
}

func TestAVMThatCannotBeSampledDoesNotStarveTheOthers(t *testing.T) {
	w := newWorld(t)
	stuck, _ := w.running("a")
	_, other := w.running("b")
	w.adjust = func(d *lifecycle.Deps) { d.Disks = stuckDisks{d.Disks, stuck} }
	w.restart()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	w.sampled(ctx, other)
}
