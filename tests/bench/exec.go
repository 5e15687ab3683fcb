// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/agentlink"
	"github.com/vmlet/vmlet/pkg/paths"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
	"github.com/vmlet/vmlet/tests/harness"
)

// execAtOnce is how many commands run in the guest at the same time.
const execAtOnce = 50

// execs runs `true` in a guest, one by one and many at once. The floor of one is a round
// trip to the agent that does nothing, and what a fork, exec and exit take in that guest.
func execs(t *testing.T, n int) outcome {
	node := startNode(t)
	pod := node.Run(harness.Pod{Name: "exec"})
	pod.WaitReady()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	pod.Exec("/bin/true")

	var one, many, floor samples
	for range n {
		begin := time.Now()
		must(t, execTrue(ctx, node, pod))
		one.add(time.Since(begin))
	}
	for range max(n/20, 1) {
		begin := time.Now()
		var group errgroup.Group
		for range execAtOnce {
			group.Go(func() error { return execTrue(ctx, node, pod) })
		}
		must(t, group.Wait())
		many.add(time.Since(begin))
	}
	process := forkExecExit(t, pod)
	// A port has one host: the daemon makes way.
	node.Stop()
	trips, err := roundTrips(ctx, node, pod, n)
	must(t, err)
	node.Start()
	for _, trip := range trips {
		floor.add(trip + process)
	}
	r := newResult("exec_sync_true", unitMS, one, floor)
	r.note = fmt.Sprintf("fork, exec and exit in the guest %s ms", figure(milliseconds(process)))
	return outcome{results: []Result{r, newResult("exec_50_parallel", unitMS, many, nil)}}
}

func execTrue(ctx context.Context, node *harness.Node, pod *harness.Running) error {
	res, err := node.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: pod.ContainerID, Cmd: []string{"/bin/true"}, Timeout: 60})
	if err == nil && res.GetExitCode() != 0 {
		err = fmt.Errorf("true: exit code %d", res.GetExitCode())
	}
	return err
}

// forkExecExit is the mean time of a process of `true` in the guest, by the guest's clock.
func forkExecExit(t *testing.T, pod *harness.Running) time.Duration {
	t.Helper()
	const times = 200
	out := pod.Exec("sh", "-c", fmt.Sprintf(
		"read -r a _ </proc/uptime; i=0; while [ $i -lt %d ]; do /bin/true; i=$((i+1)); done; read -r b _ </proc/uptime; echo $a $b", times))
	var begin, end float64
	_, err := fmt.Sscan(out, &begin, &end)
	must(t, err)
	return time.Duration((end - begin) / times * float64(time.Second))
}

// roundTrips calls the agent n times for next to nothing, over the daemon's own link.
func roundTrips(ctx context.Context, node *harness.Node, pod *harness.Running, n int) ([]time.Duration, error) {
	at := paths.Node{Root: node.LibDir + "/node", State: node.RunDir + "/state"}
	port, err := (&net.Dialer{}).DialContext(ctx, "unix", at.AgentSocket(pod.SandboxID))
	if err != nil {
		return nil, err
	}
	session, err := agentlink.Connect(ctx, port)
	if err != nil {
		return nil, err
	}
	defer session.Close() //nolint:errcheck // the guest notices
	var trips []time.Duration
	for range n {
		begin := time.Now()
		if err := roundTrip(ctx, session); err != nil {
			return nil, err
		}
		trips = append(trips, time.Since(begin))
	}
	return trips, nil
}

// roundTrip acknowledges the exit of a command that never was.
func roundTrip(ctx context.Context, session *agentlink.Session) error {
	stream, err := session.Open(ctx)
	if err != nil {
		return err
	}
	defer stream.Close() //nolint:errcheck // it was answered
	request := &agentv1.Request{Call: &agentv1.Request_AckMain{AckMain: &agentv1.AckMainRequest{Id: "no such command"}}}
	if err := stream.Send(request); err != nil {
		return err
	}
	return stream.Receive(&agentv1.Reply{})
}
