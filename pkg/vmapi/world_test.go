// SPDX-License-Identifier: Apache-2.0

package vmapi_test

import (
	"context"
	"io"
	"net"
	"testing"

	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/vmlet/vmlet/pkg/vm"
	"github.com/vmlet/vmlet/pkg/vmapi"
)

// images is what a test makes of the use cases.
type images struct {
	pull func(ctx context.Context, ref string, auth vm.RegistryAuth, progress func(vm.PullProgress)) (vm.Image, error)
	take func(ctx context.Context, name string, r io.Reader, progress func(vm.PullProgress)) (vm.Image, error)
}

func (i images) PullImage(ctx context.Context, ref string, auth vm.RegistryAuth, progress func(vm.PullProgress)) (vm.Image, error) {
	return i.pull(ctx, ref, auth, progress)
}

func (i images) ImportImage(ctx context.Context, name string, r io.Reader, progress func(vm.PullProgress)) (vm.Image, error) {
	return i.take(ctx, name, r, progress)
}

type doctor []vm.Check

func (d doctor) Run(context.Context) []vm.Check { return d }

type hypervisor func(ctx context.Context) (libvirt, qemu string, err error)

func (h hypervisor) Versions(ctx context.Context) (libvirt, qemu string, err error) { return h(ctx) }

// connect serves deps in memory, errors mapped as the daemon maps them.
func connect(t *testing.T, deps vmapi.Deps) *grpc.ClientConn {
	t.Helper()
	listener := bufconn.Listen(64 << 10)
	server := grpc.NewServer(grpc.UnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			resp, err := handler(ctx, req)
			return resp, errgrpc.ToGRPC(err)
		}), grpc.StreamInterceptor(
		func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return errgrpc.ToGRPC(handler(srv, stream))
		}))
	vmapi.Register(server, deps)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///memory", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return conn
}
