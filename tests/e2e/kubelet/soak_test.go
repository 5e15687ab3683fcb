// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kubelet

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vmlet/vmlet/tests/harness"
)

const soakPod = `apiVersion: v1
kind: Pod
metadata: {name: NAME, annotations: {vmlet.io/agent-timeout: 5m}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: vm, image: IMAGE, command: [sh, -c, "echo up; exec sleep 1000"]}]
`

// What the daemon may take more at the end of a soak than after its first round. A round that leaves one descriptor,
// thread or page for each of its pods is over it after the second.
const (
	moreDescriptors = 5
	moreThreads     = 8
	moreMemory      = 8 << 20
)

// TestSoak starts and deletes PODS (20) pods again and again for as long as SOAK says: 40 s here, 10 minutes in
// `make soak`. Nothing is left after any round, and the daemon does not grow.
func TestSoak(t *testing.T) {
	soak, count := 40*time.Second, 20
	fromEnv(t, "PODS", &count)
	if text := os.Getenv("SOAK"); text != "" {
		var err error
		if soak, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	node := harness.StartNode(t)
	k := harness.StartKubelet(t, node)
	var first, last harness.Usage
	rounds := 0
	for began := time.Now(); rounds < 2 || time.Since(began) < soak; rounds++ {
		soakRound(t, k, rounds, count)
		last = node.Usage()
		if rounds == 0 {
			first = last
		}
		t.Logf("%5.1f s: after round %d: %s", time.Since(began).Seconds(), rounds+1, last)
	}
	if last.Descriptors > first.Descriptors+moreDescriptors || last.Threads > first.Threads+moreThreads || last.RSS > first.RSS+moreMemory {
		t.Errorf("vmlet has grown in %d rounds: %s, was %s", rounds, last, first)
	}
}

// soakRound starts pods at once and deletes them as soon as their VMs run; the first one is let boot.
func soakRound(t *testing.T, k *harness.Kubelet, round, count int) {
	t.Helper()
	var names []string
	for i := range count {
		name := fmt.Sprintf("soak-%d-%d", round, i)
		names = append(names, name)
		k.Apply(name, strings.ReplaceAll(soakPod, "NAME", name))
	}
	for _, name := range names {
		k.WaitPhase(name, "Running")
	}
	for _, name := range names[1:] {
		k.Delete(name)
	}
	k.WaitLog(names[0], "up")
	k.Delete(names[0])
	for _, name := range names {
		k.WaitGone(name)
	}
	k.Node.RemoveEnded()
}
