// SPDX-License-Identifier: Apache-2.0

package vmapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/vmlet/vmlet/pkg/vm"
	"github.com/vmlet/vmlet/pkg/vmapi"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

func (v vms) Console(ctx context.Context, ref string, req vm.ConsoleRequest, client vm.ConsoleClient) (vm.Exit, error) {
	if ref != "shop/db" {
		return vm.Exit{}, fmt.Errorf("console of %q: %w", ref, errdefs.ErrNotFound)
	}
	return v.console(ctx, req, client)
}

func (v vms) VNC(_ context.Context, ref string, opened func() error, client io.ReadWriter) error {
	if ref != "shop/db" {
		return fmt.Errorf("VNC of %q: %w", ref, errdefs.ErrNotFound)
	}
	return v.vnc(opened, client)
}

func (vms) Screenshot(_ context.Context, ref string) (vm.Picture, error) {
	return vm.Picture{PNG: []byte("a picture of " + ref), Width: 640, Height: 480}, nil
}

// consoles is a client of a server whose consoles are this.
func consoles(t *testing.T, console func(ctx context.Context, req vm.ConsoleRequest, client vm.ConsoleClient) (vm.Exit, error)) vmletv1.VMService_ConsoleClient {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	stream, err := vmletv1.NewVMServiceClient(connect(t, vmapi.Deps{VMs: vms{console: console}})).Console(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func TestConsoleTellsAllThatHappens(t *testing.T) {
	gone := errors.New("the client has gone")
	stream := consoles(t, func(_ context.Context, req vm.ConsoleRequest, client vm.ConsoleClient) (vm.Exit, error) {
		if req != (vm.ConsoleRequest{Write: true, Force: true, Replay: 1 << 20}) {
			return vm.Exit{}, fmt.Errorf("asked for %+v", req)
		}
		if err := client.Opened("5a"); err != nil {
			return vm.Exit{}, err
		}
		for input := range client.Input {
			if _, err := fmt.Fprintf(client.Output, "echo %s", input); err != nil {
				return vm.Exit{}, gone
			}
		}
		client.Typed()
		client.TakenOver()
		return vm.Exit{Code: 137, Reason: vm.ReasonKilled, Message: "killed"}, nil
	})
	for _, req := range []*vmletv1.ConsoleRequest{
		{Vm: "shop/db", Write: true, Force: true, ReplayBytes: 1 << 20}, {Input: []byte("a")}, {}, {Input: []byte("b")},
	} {
		if err := stream.Send(req); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	output := func(s string) *vmletv1.ConsoleResponse {
		return &vmletv1.ConsoleResponse{Event: &vmletv1.ConsoleResponse_Output{Output: []byte(s)}}
	}
	for _, want := range []*vmletv1.ConsoleResponse{
		{Event: &vmletv1.ConsoleResponse_Opened{Opened: &vmletv1.ConsoleOpened{PodSandboxId: "5a"}}},
		output("echo a"), output("echo "), output("echo b"),
		{Event: &vmletv1.ConsoleResponse_Typed{Typed: &vmletv1.ConsoleTyped{}}},
		{Event: &vmletv1.ConsoleResponse_TakenOver{TakenOver: &vmletv1.ConsoleTakenOver{}}},
		{Event: &vmletv1.ConsoleResponse_Ended{Ended: &vmletv1.ConsoleEnded{Reason: "Killed", ExitCode: 137, Message: "killed"}}},
	} {
		got, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
}

func TestConsoleRefusesWhatIsOutOfOrder(t *testing.T) {
	first := func(change func(*vmletv1.ConsoleRequest)) *vmletv1.ConsoleRequest {
		req := &vmletv1.ConsoleRequest{Vm: "shop/db", Write: true}
		change(req)
		return req
	}
	good := first(func(*vmletv1.ConsoleRequest) {})
	for name, tc := range map[string]struct {
		reqs []*vmletv1.ConsoleRequest
		code codes.Code
	}{
		"nothing":             {nil, codes.InvalidArgument},
		"no VM":               {[]*vmletv1.ConsoleRequest{first(func(r *vmletv1.ConsoleRequest) { r.Vm = "" })}, codes.InvalidArgument},
		"input at once":       {[]*vmletv1.ConsoleRequest{first(func(r *vmletv1.ConsoleRequest) { r.Input = []byte("x") })}, codes.InvalidArgument},
		"force to watch":      {[]*vmletv1.ConsoleRequest{first(func(r *vmletv1.ConsoleRequest) { r.Write, r.Force = false, true })}, codes.InvalidArgument},
		"too long a replay":   {[]*vmletv1.ConsoleRequest{first(func(r *vmletv1.ConsoleRequest) { r.ReplayBytes = 1<<20 + 1 })}, codes.InvalidArgument},
		"a negative replay":   {[]*vmletv1.ConsoleRequest{first(func(r *vmletv1.ConsoleRequest) { r.ReplayBytes = -1 })}, codes.InvalidArgument},
		"another VM":          {[]*vmletv1.ConsoleRequest{good, {Vm: "shop/db"}}, codes.InvalidArgument},
		"too much input":      {[]*vmletv1.ConsoleRequest{good, {Input: make([]byte, 64<<10+1)}}, codes.InvalidArgument},
		"input of a watcher":  {[]*vmletv1.ConsoleRequest{first(func(r *vmletv1.ConsoleRequest) { r.Write = false }), {Input: []byte("x")}}, codes.InvalidArgument},
		"a VM that is absent": {[]*vmletv1.ConsoleRequest{first(func(r *vmletv1.ConsoleRequest) { r.Vm = "shop/moon" })}, codes.NotFound},
	} {
		t.Run(name, func(t *testing.T) {
			stream := consoles(t, func(ctx context.Context, _ vm.ConsoleRequest, _ vm.ConsoleClient) (vm.Exit, error) {
				<-ctx.Done()
				return vm.Exit{}, context.Cause(ctx)
			})
			for _, req := range tc.reqs {
				if err := stream.Send(req); err != nil && !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
			}
			if len(tc.reqs) == 0 {
				if err := stream.CloseSend(); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := stream.Recv(); status.Code(err) != tc.code {
				t.Errorf("got %v, want %s", err, tc.code)
			}
		})
	}
}

func TestVNCPassesBytesBothWays(t *testing.T) {
	client := vmletv1.NewVMServiceClient(connect(t, vmapi.Deps{VMs: vms{vnc: func(opened func() error, client io.ReadWriter) error {
		if err := opened(); err != nil {
			return err
		}
		said, err := io.ReadAll(client)
		if err != nil {
			return err
		}
		_, err = io.WriteString(client, strings.ToUpper(string(said)))
		return err
	}}}))
	data := func(s string) *vmletv1.VNCRequest {
		return &vmletv1.VNCRequest{Data: []byte(s)}
	}
	target := func(s string) *vmletv1.VNCRequest {
		return &vmletv1.VNCRequest{Vm: s}
	}
	for name, tc := range map[string]struct {
		reqs []*vmletv1.VNCRequest
		want string
		code codes.Code
	}{
		"bytes":         {[]*vmletv1.VNCRequest{target("shop/db"), data("he"), data(""), data("llo")}, "HELLO", codes.OK},
		"nothing":       {nil, "", codes.InvalidArgument},
		"data at once":  {[]*vmletv1.VNCRequest{data("x")}, "", codes.InvalidArgument},
		"no VM":         {[]*vmletv1.VNCRequest{target("")}, "", codes.InvalidArgument},
		"another VM":    {[]*vmletv1.VNCRequest{target("shop/db"), target("shop/db")}, "", codes.InvalidArgument},
		"an absent one": {[]*vmletv1.VNCRequest{target("shop/moon")}, "", codes.NotFound},
	} {
		t.Run(name, func(t *testing.T) {
			stream, err := client.VNC(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, req := range tc.reqs {
				if err := stream.Send(req); err != nil && !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
			}
			if err := stream.CloseSend(); err != nil {
				t.Fatal(err)
			}
			got, first := "", true
			for err == nil {
				var msg *vmletv1.VNCResponse
				if msg, err = stream.Recv(); err == nil {
					if first && len(msg.GetData()) > 0 {
						t.Errorf("the first message holds %q", msg.GetData())
					}
					got, first = got+string(msg.GetData()), false
				}
			}
			if errors.Is(err, io.EOF) {
				err = nil
			}
			if status.Code(err) != tc.code || got != tc.want {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestScreenshot(t *testing.T) {
	client, _ := vmClient(t)
	got, err := client.Screenshot(t.Context(), &vmletv1.ScreenshotRequest{Vm: "a"})
	want := &vmletv1.ScreenshotResponse{Png: []byte("a picture of a"), Width: 640, Height: 480}
	if diff := cmp.Diff(want, got, protocmp.Transform()); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if _, err := client.Screenshot(t.Context(), &vmletv1.ScreenshotRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Error(err)
	}
}
