// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"

	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
	"github.com/vmlet/vmlet/tests/harness"
)

// nodeAgentPatience is the deadline of the Arktos node agent's calls.
const nodeAgentPatience = 15 * time.Second

// nodeAgent speaks to a node as the Arktos node agent does.
type nodeAgent struct {
	arktosv1alpha2.RuntimeServiceClient
	images arktosv1alpha2.ImageServiceClient
}

// newNodeAgent connects as its gRPC of 2019 does: the authority of all calls is the socket's path, and an answer has 16 MiB at most.
func newNodeAgent(t *testing.T, node *harness.Node) nodeAgent {
	t.Helper()
	conn := node.Dial(grpc.WithAuthority(node.Socket()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return nodeAgent{arktosv1alpha2.NewRuntimeServiceClient(conn), arktosv1alpha2.NewImageServiceClient(conn)}
}

// These are its VM calls, to their ends: what becomes of them after 15 s is TestArktosWalk's.

func (a nodeAgent) reboot(ctx context.Context, vm string, spec *arktosv1alpha2.VmRebootSpec) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	_, err := a.RebootVM(ctx, &arktosv1alpha2.RebootVMRequest{VmId: vm, RebootSpec: spec})
	return err
}

func (a nodeAgent) snapshot(ctx context.Context, vm, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	_, err := a.CreateSnapshot(ctx, &arktosv1alpha2.CreateSnapshotRequest{VmID: vm, SnapshotID: name})
	return err
}

func (a nodeAgent) restore(ctx context.Context, vm, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	_, err := a.RestoreToSnapshot(ctx, &arktosv1alpha2.RestoreToSnapshotRequest{VmID: vm, SnapshotID: name})
	return err
}
