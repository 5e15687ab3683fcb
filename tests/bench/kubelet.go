// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/vmlet/vmlet/tests/harness"
)

// kubeletPod is the least that a user writes.
const kubeletPod = `apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  terminationGracePeriodSeconds: 60
  containers: [{name: vm, image: IMAGE}]
`

// podsUnderKubelet takes how long kubelet needs from a manifest to a pod that is Ready, and from its removal to a pod
// that is gone. The floor is the same by the calls that kubelet makes, on a node without one.
func podsUnderKubelet(t *testing.T, n int) outcome {
	// Of its own: kubelet ends the pods of others.
	bare := vmlet{node: harness.NewNode(t, harness.WithProgram("vmlet"), harness.WithConfig(
		fmt.Sprintf("defaults: {memory: %dMiB}\nlog: {level: info}", guestMemory>>20))), steps: newStepTimes()}
	bare.node.Start()
	bare.node.Pull(harness.TinyImage())
	k := harness.StartKubelet(t, startNode(t))

	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n)*2*grace)
	defer cancel()
	var ready, gone, bareReady, bareGone samples
	for i := range n {
		begin := time.Now()
		p, err := bare.start(ctx, fmt.Sprintf("bare-%d", i))
		must(t, err)
		bareReady.add(time.Since(begin))
		must(t, awaitReady(ctx, bare.logOf(p)))
		begin = time.Now()
		must(t, bare.stop(ctx, p, int64(grace/time.Second)))
		must(t, bare.remove(ctx, p))
		bareGone.add(time.Since(begin))

		name := fmt.Sprintf("kube-%d", i)
		begin = time.Now()
		k.Apply(name, fmt.Sprintf(kubeletPod, name))
		k.WaitReady(name)
		ready.add(time.Since(begin))
		k.WaitLog(name, readyMark)
		begin = time.Now()
		k.Delete(name)
		k.WaitGone(name)
		gone.add(time.Since(begin))
	}
	return outcome{results: []Result{
		newResult("kubelet_pod_ready", unitMS, ready, bareReady),
		newResult("kubelet_pod_gone", unitMS, gone, bareGone),
	}}
}

// idleUnderKubelet is how long kubelet's work and vmlet's are looked at.
const idleUnderKubelet = 30 * time.Second

// manyUnderKubelet takes what 50 idle VM pods cost a node: the CPU time of the daemon, and how long kubelet's relist of
// its pods takes, without and with events from the runtime.
func manyUnderKubelet(t *testing.T, n int) outcome {
	const pods = 50
	node := startNode(t)
	k := harness.StartKubelet(t, node)
	for i := range pods {
		name := fmt.Sprintf("many-%d", i)
		k.Apply(name, fmt.Sprintf(kubeletPod, name))
		if i%4 == 3 || i == pods-1 {
			k.WaitLog(name, readyMark) // a few at a time: the guests share two cores
		}
	}
	for i := range pods {
		k.WaitLog(fmt.Sprintf("many-%d", i), readyMark)
	}
	var out outcome
	measure := func(suffix string) {
		pause(10 * time.Second) // for what a start leaves running to end
		var cpu, relist samples
		relists := 0.0
		for range n {
			before, beforeRelist := cpuTime(t, node.PID()), readRelists(t, k)
			begin := time.Now()
			pause(idleUnderKubelet)
			cpu = append(cpu, 100*float64(cpuTime(t, node.PID())-before)/float64(time.Since(begin)))
			after := readRelists(t, k)
			if count := after.count - beforeRelist.count; count > 0 {
				relist = append(relist, milliseconds(after.took-beforeRelist.took)/count)
				relists += count
			}
		}
		out.results = append(out.results, newResult("kubelet_50_vms_daemon_cpu"+suffix, unitPercent, cpu, nil))
		if len(relist) > 0 {
			r := newResult("kubelet_50_vms_relist"+suffix, unitMS, relist, nil)
			r.note = fmt.Sprintf("means of %s each; %.1f relists a second", idleUnderKubelet, relists/(float64(n)*idleUnderKubelet.Seconds()))
			out.results = append(out.results, r)
		}
	}
	measure("")
	k.Restart(harness.WithKubeletConfig("featureGates: {EventedPLEG: true}"))
	measure("_events")
	return out
}
