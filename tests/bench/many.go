// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"testing"
	"time"

	virt "libvirt.org/go/libvirt"

	"golang.org/x/sync/errgroup"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// manyVMs measures the daemon's memory with more and more VMs, and how soon it serves again
// after it was killed beside them.
func manyVMs(t *testing.T, n int) outcome {
	node := startNode(t)
	// What pulling the image took is not what an idle daemon takes.
	node.Stop()
	node.Start()
	v := vmlet{node: node, steps: newStepTimes()}
	var out outcome
	measure := func(name string) Result {
		pause(5 * time.Second) // for what a start leaves running to end
		values := residentMemory(t, node, n)
		r := newResult(name, unitMiB, values, nil)
		r.note = fmt.Sprintf("%s of it its own, the rest pages of program and libraries", figure(ownMemory(t, node)))
		if pss, count := qemuMemory(t, node); count > 0 {
			r.note += fmt.Sprintf("; QEMU itself: %s MiB a VM (PSS)", figure(pss/float64(count)))
		}
		out.results = append(out.results, r)
		return r
	}
	idle := measure("daemon_rss_0_vms")
	startMany(t, v, 0, 10)
	measure("daemon_rss_10_vms")
	startMany(t, v, 10, 50)
	full := measure("daemon_rss_50_vms")
	out.results = append(out.results,
		newResult("daemon_rss_per_vm", unitMiB, samples{(full.P50 - idle.P50) / 50}, nil),
		recoveries(t, node, n))
	return out
}

// startMany starts the VMs of these numbers, a few at a time, and waits until all guests
// are up: then they are idle.
func startMany(t *testing.T, v vmlet, from, to int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for i := from; i < to; i++ {
		group.Go(func() error {
			p, err := v.start(ctx, fmt.Sprintf("many-%d", i))
			if err != nil {
				return err
			}
			return awaitReady(ctx, v.logOf(p))
		})
	}
	must(t, group.Wait())
}

// recoveries kills the daemon with its VMs running, and takes the time from the start of
// the next one to its first list of pods. The floor is what any recovery has to ask: a
// connection to libvirt, the list of domains, and the state of each.
func recoveries(t *testing.T, node *harness.Node, n int) Result {
	t.Helper()
	var took, floor samples
	running := len(listPods(t, node))
	for range n {
		begin := time.Now()
		must(t, lookAtDomains(running))
		floor.add(time.Since(begin))

		node.Kill9()
		begin = time.Now()
		node.StartNotServing()
		awaitList(t, node)
		took.add(time.Since(begin))
		if ready := len(listPods(t, node)); ready != running {
			t.Fatalf("%d of %d pods are ready after the recovery", ready, running)
		}
	}
	return newResult("recover_50_vms", unitMS, took, floor)
}

// awaitList returns once ListPodSandbox is answered.
func awaitList(t *testing.T, node *harness.Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		node.Conn().ResetConnectBackoff()
		_, err := node.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("vmlet does not serve: %v", err)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func listPods(t *testing.T, node *harness.Node) []*runtimeapi.PodSandbox {
	t.Helper()
	r, err := node.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{
		State: &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_READY},
	}})
	must(t, err)
	return r.GetItems()
}

func lookAtDomains(least int) error {
	conn, err := virt.NewConnect(harness.URI())
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // it was only asked
	domains, err := conn.ListAllDomains(0)
	if err != nil {
		return err
	}
	if len(domains) < least {
		return fmt.Errorf("%d domains of %d", len(domains), least)
	}
	for i := range domains {
		if _, _, err := domains[i].GetState(); err != nil {
			return err
		}
		if err := domains[i].Free(); err != nil {
			return err
		}
	}
	return nil
}
