// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// firmwareTime is how long a guest runs before it is destroyed: it is in its firmware then,
// busy as guests are.
const firmwareTime = 500 * time.Millisecond

// settleTime is how long the kernel is given to take down the network namespace of the pod
// before: that holds up whoever makes the next one.
const settleTime = 300 * time.Millisecond

// podsOneByOne starts pods and ends them by force, one at a time.
func podsOneByOne(t *testing.T, n int) outcome {
	f, v := rivals(t)
	ctx := t.Context()
	var start, stop, bareStart, bareStop samples
	before, beforeOps := readTotals(t, libvirtCalls, "operation"), readTotals(t, operations, "operation")
	for i := range n {
		pause(settleTime)
		begin := time.Now()
		bare, err := f.start(ctx)
		must(t, err)
		bareStart.add(time.Since(begin))
		pause(firmwareTime)
		begin = time.Now()
		must(t, bare.domain.Destroy())
		bareStop.add(time.Since(begin))
		must(t, f.remove(ctx, bare))

		pause(settleTime)
		begin = time.Now()
		p, err := v.start(ctx, fmt.Sprintf("seq-%d", i))
		must(t, err)
		start.add(time.Since(begin))
		pause(firmwareTime)
		begin = time.Now()
		must(t, v.stop(ctx, p, 0))
		stop.add(time.Since(begin))
		must(t, v.remove(ctx, p))
	}
	calls := since(before, readTotals(t, libvirtCalls, "operation"))
	ops := since(beforeOps, readTotals(t, operations, "operation"))
	return outcome{
		results: []Result{newResult("pod_start_seq", unitMS, start, bareStart), newResult("stop_forced", unitMS, stop, bareStop)},
		remarks: []string{
			stepsTable("One pod after another", f.steps, v.steps),
			fmt.Sprintf("In vmlet, per pod from start to removal, in ms: operations %s; calls to libvirt: %s.\n", sentence(ops, n), sentence(calls, n)),
		},
	}
}

// parallel is how many pods are started at once.
const parallel = 8

// podsInParallel starts pods, several at once; each one's own time counts.
func podsInParallel(t *testing.T, rounds int) outcome {
	f, v := rivals(t)
	var start, bareStart samples
	for round := range rounds {
		pause(settleTime)
		bare := make([]*floorPod, parallel)
		took := atOnce(t, func(ctx context.Context, i int) (err error) { bare[i], err = f.start(ctx); return err })
		bareStart = append(bareStart, took...)
		atOnce(t, func(ctx context.Context, i int) error {
			if err := bare[i].domain.Destroy(); err != nil {
				return err
			}
			return f.remove(ctx, bare[i])
		})

		pause(settleTime)
		pods := make([]vmletPod, parallel)
		took = atOnce(t, func(ctx context.Context, i int) (err error) {
			pods[i], err = v.start(ctx, fmt.Sprintf("par-%d-%d", round, i))
			return err
		})
		start = append(start, took...)
		atOnce(t, func(ctx context.Context, i int) error { return v.remove(ctx, pods[i]) })
	}
	return outcome{
		results: []Result{newResult("pod_start_par8", unitMS, start, bareStart)},
		remarks: []string{stepsTable("Eight pods at once", f.steps, v.steps)},
	}
}

// atOnce runs do for each of the pods and returns how long each took.
func atOnce(t *testing.T, do func(ctx context.Context, i int) error) samples {
	t.Helper()
	took := make(samples, parallel)
	begin := time.Now()
	group, ctx := errgroup.WithContext(t.Context())
	for i := range parallel {
		group.Go(func() error {
			err := do(ctx, i)
			took[i] = milliseconds(time.Since(begin))
			return err
		})
	}
	must(t, group.Wait())
	return took
}

// stepsTable sets the floor's steps beside vmlet's calls.
func stepsTable(title string, bare, ours *stepTimes) string {
	rows := [][]string{{"who", "step", "least ms", "p50 ms", "p99 ms"}}
	for _, side := range []struct {
		who   string
		steps *stepTimes
	}{{"floor", bare}, {"vmlet", ours}} {
		for _, step := range side.steps.order {
			times := *side.steps.times[step]
			rows = append(rows, []string{side.who, step, figure(times.at(0)), figure(times.at(0.5)), figure(times.at(0.99))})
		}
	}
	return title + ", step by step (what depends on nothing else overlaps in the floor):\n\n" + strings.TrimSuffix(format(rows), "\n") + "\n"
}
