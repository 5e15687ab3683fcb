// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"os"
	"testing"
	"time"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/paths"
	"github.com/vmlet/vmlet/tests/harness"
)

// lists measures what a kubelet asks all the time, on a store of many records.
func lists(records int) func(*testing.T, int) outcome {
	return func(t *testing.T, n int) outcome {
		node := newNode(t)
		stored := paths.Node{Root: node.LibDir + "/node", State: node.RunDir + "/state"}
		ids := fillStore(t, stored, records)
		node.Start()
		// The records stand for pods that never were: there is nothing to remove.
		t.Cleanup(func() {
			node.Stop()
			must(t, os.Remove(stored.DB()))
		})
		out := outcome{results: []Result{
			listOf(t, node, fmt.Sprintf("list_sandboxes_%d", records), "ListPodSandbox", n, func(how grpc.CallOption) (func() bool, error) {
				r, err := node.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{}, how)
				return func() bool { return len(r.GetItems()) == records }, err
			}),
			listOf(t, node, fmt.Sprintf("list_containers_%d", records), "ListContainers", n, func(how grpc.CallOption) (func() bool, error) {
				r, err := node.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{}, how)
				return func() bool { return len(r.GetContainers()) == records }, err
			}),
		}}
		if records == 1000 {
			next := 0
			out.results = append(out.results, listOf(t, node, "sandbox_status_1000", "PodSandboxStatus", n, func(how grpc.CallOption) (func() bool, error) {
				id := ids[next%len(ids)]
				next += 7 // not one after the other as they lie in memory
				r, err := node.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: id}, how)
				return func() bool { return r.GetStatus().GetId() == id }, err
			}))
			out.remarks = []string{listsRemark}
		}
		return out
	}
}

// listsRemark tells what the figures of the lists are.
const listsRemark = "`list_*` and `sandbox_status_*` end when the whole answer is in the client's memory: that is the daemon's part. " +
	"What the client then does with it, protobuf's decoding above all, is told beside: `decoded` is both together, as a client in Go sees it.\n"

// listOf takes the time of a call n times, in turns with Version, the least there is to ask.
// ask returns what tells, once the answer is decoded, whether it is whole.
func listOf(t *testing.T, node *harness.Node, name, method string, n int, ask func(grpc.CallOption) (func() bool, error)) Result {
	t.Helper()
	var took, decoded, floor samples
	codec := newLateCodec()
	calls, handled := readTotals(t, libvirtCalls, "operation"), readTotals(t, rpcs, "method")
	for range n {
		begin := time.Now()
		_, err := node.Version(t.Context(), &runtimeapi.VersionRequest{})
		floor.add(time.Since(begin))
		must(t, err)
		begin = time.Now()
		whole, err := ask(grpc.ForceCodecV2(codec))
		took.add(time.Since(begin))
		must(t, err)
		must(t, codec.decode())
		decoded.add(time.Since(begin))
		if !whole() {
			t.Fatalf("%s: the answer is not whole", method)
		}
	}
	r := newResult(name, unitMS, took, floor)
	handler := since(handled, readTotals(t, rpcs, "method"))["runtime.v1.RuntimeService/"+method]
	toLibvirt := all(since(calls, readTotals(t, libvirtCalls, "operation")))
	r.note = fmt.Sprintf("handler %s ms; decoded p50 %s, p99 %s ms; %.0f libvirt calls",
		figure(milliseconds(handler.mean())), figure(decoded.at(0.5)), figure(decoded.at(0.99)), toLibvirt.count)
	return r
}
