// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// maxMessage is what CRI clients take in one message, in bytes: the output of an exec and
// the list of all pods come in one.
const maxMessage = 16 << 20

// client is a connection to vmlet. Its calls return errors that are told to people as they
// are (see callError).
type client struct {
	conn    *grpc.ClientConn
	runtime runtimeapi.RuntimeServiceClient
	images  runtimeapi.ImageServiceClient
	store   vmletv1.ImageServiceClient
	disks   vmletv1.DiskServiceClient
	vms     vmletv1.VMServiceClient

	checkpoints vmletv1.CheckpointServiceClient
	node        vmletv1.NodeServiceClient
}

// dial prepares a connection to a unix socket. The first call opens it.
func dial(address string) (*client, error) {
	e := &edge{address: strings.TrimPrefix(address, "unix://")}
	conn, err := grpc.NewClient("passthrough:///vmlet",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(e.dial),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithUnaryInterceptor(e.unary),
		grpc.WithStreamInterceptor(e.stream),
	)
	if err != nil {
		return nil, err
	}
	return &client{
		conn:    conn,
		runtime: runtimeapi.NewRuntimeServiceClient(conn),
		images:  runtimeapi.NewImageServiceClient(conn),
		store:   vmletv1.NewImageServiceClient(conn),
		disks:   vmletv1.NewDiskServiceClient(conn),
		vms:     vmletv1.NewVMServiceClient(conn),

		checkpoints: vmletv1.NewCheckpointServiceClient(conn),

		node: vmletv1.NewNodeServiceClient(conn),
	}, nil
}

// edge is where errors of calls become errors for people.
type edge struct {
	address string

	mu      sync.Mutex
	dialErr error // why the socket cannot be connected to, nil once it could
}

func (e *edge) dial(ctx context.Context, _ string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", e.address)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dialErr = err
	return conn, err
}

//nolint:revive // grpc.UnaryClientInterceptor has this many parameters
func (e *edge) unary(
	ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	return e.explain(ctx, method, invoke(ctx, method, req, reply, conn, opts...))
}

func (e *edge) stream(
	ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, conn, method, opts...)
	if err != nil {
		return nil, e.explain(ctx, method, err)
	}
	return &explainedStream{ClientStream: s, explain: func(err error) error { return e.explain(ctx, method, err) }}, nil
}

// explainedStream explains what ends it. io.EOF stays what it is.
type explainedStream struct {
	grpc.ClientStream

	explain func(error) error
}

// RecvMsg is grpc.ClientStream's.
func (s *explainedStream) RecvMsg(m any) error { return s.explain(s.ClientStream.RecvMsg(m)) }
