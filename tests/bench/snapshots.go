// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
	"github.com/vmlet/vmlet/tests/harness"
)

// snapshots takes snapshots of disk and memory of a guest with that many MiB, and puts it back to them. The guest is idle, so that
// what the calls cost beside the bytes shows.
func snapshots(memory int64) func(t *testing.T, n int) outcome {
	return func(t *testing.T, n int) outcome {
		f, v := rivalsOf(t, startNode(t), harness.Pod{
			Image: harness.TinyImage(), Annotations: map[string]string{"vmlet.io/memory": fmt.Sprintf("%dMi", memory)},
		})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
		defer cancel()
		bare, err := f.start(ctx)
		must(t, err)
		must(t, awaitReady(ctx, f.console(bare.id)))
		p, err := v.start(ctx, "snapshots")
		must(t, err)
		must(t, awaitReady(ctx, v.logOf(p)))

		var take, still, restore, bareTake, bareStill, bareRestore samples
		var written int64
		for i := range n {
			begin := time.Now()
			snap, err := f.snapshot(bare, i)
			must(t, err)
			bareTake.add(time.Since(begin))
			bareStill.add(f.events.stoodStill(bare.uuid()))
			begin = time.Now()
			must(t, f.restore(ctx, bare, snap))
			bareRestore.add(time.Since(begin))

			name := fmt.Sprintf("s%d", i)
			begin = time.Now()
			taken, err := v.node.VMs.CreateSnapshot(ctx, &vmletv1.CreateSnapshotRequest{Vm: p.sandbox, Name: name, Memory: true})
			must(t, err)
			take.add(time.Since(begin))
			still.add(time.Duration(taken.GetSnapshot().GetPauseMs()) * time.Millisecond)
			written = taken.GetSnapshot().GetMemoryBytes()
			begin = time.Now()
			_, err = v.node.VMs.RestoreSnapshot(ctx, &vmletv1.RestoreSnapshotRequest{Vm: p.sandbox, Name: name})
			must(t, err)
			restore.add(time.Since(begin))
		}
		must(t, bare.domain.Destroy())
		must(t, f.remove(ctx, bare))
		must(t, v.remove(ctx, p))
		results := []Result{
			newResult(fmt.Sprintf("snapshot_create_%d", memory), unitMS, take, bareTake),
			newResult(fmt.Sprintf("snapshot_pause_%d", memory), unitMS, still, bareStill),
			newResult(fmt.Sprintf("snapshot_restore_%d", memory), unitMS, restore, bareRestore),
		}
		results[0].note = fmt.Sprintf("%d MiB of memory written: the guest is idle", written/vm.MiB)
		return outcome{results: results}
	}
}
