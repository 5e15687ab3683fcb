// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestExecSyncTellsOutputAndExitCode(t *testing.T) {
	svc := newFake()
	svc.exec = func(_ context.Context, req vm.ExecRequest) (vm.ExecResult, error) {
		return vm.ExecResult{ExitCode: 3, Stdout: []byte(req.Command[1]), Stderr: []byte("e")}, nil
	}
	got, err := newServer(t, svc).ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: "c", Cmd: []string{"echo", "hello"}})
	if err != nil {
		t.Fatal(err)
	}
	if string(got.GetStdout()) != "hello" || string(got.GetStderr()) != "e" || got.GetExitCode() != 3 {
		t.Errorf("got %v", got)
	}
}

func TestACommandThatTimesOutIsDeadlineExceeded(t *testing.T) {
	for name, below := range map[string]func(ctx context.Context) error{
		"as the context says": context.Cause,
		"as the agent says": func(context.Context) error {
			return fmt.Errorf("no answer: %w", errdefs.ErrUnavailable)
		},
	} {
		t.Run(name, func(t *testing.T) {
			svc := newFake()
			svc.exec = func(ctx context.Context, _ vm.ExecRequest) (vm.ExecResult, error) {
				<-ctx.Done()
				return vm.ExecResult{}, below(ctx)
			}
			s := newServer(t, svc)
			s.cfg.ExecLimit = time.Millisecond // a timeout of 0 has a bound all the same
			_, err := s.ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: "c", Cmd: []string{"sleep", secret}})
			wantClass(t, err, context.DeadlineExceeded, "exec in container c")
		})
	}
}

func TestOtherErrorsOfACommandKeepTheirClass(t *testing.T) {
	svc := newFake()
	svc.err = fmt.Errorf("no agent: %w", errdefs.ErrUnavailable)
	_, err := newServer(t, svc).ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: "c", Cmd: []string{"x"}, Timeout: 60})
	wantClass(t, err, errdefs.ErrUnavailable, "no agent")
}

func TestExecTimeouts(t *testing.T) {
	s := newServer(t, newFake())
	for asked, want := range map[int64]time.Duration{
		0: DefaultExecLimit, 5: 5 * time.Second, 1 << 30: DefaultExecLimit, math.MaxInt64: DefaultExecLimit,
	} {
		if got := s.execTimeout(asked); got != want {
			t.Errorf("timeout %d is %s, want %s", asked, got, want)
		}
	}
}

func TestCommandsThatAreRefused(t *testing.T) {
	for field, req := range map[string]*runtimeapi.ExecSyncRequest{
		"container_id": {Cmd: []string{"x"}},
		"cmd":          {ContainerId: "c"},
		"timeout":      {ContainerId: "c", Cmd: []string{"x"}, Timeout: -1},
	} {
		_, err := newServer(t, newFake()).ExecSync(t.Context(), req)
		wantClass(t, err, errdefs.ErrInvalidArgument, field)
	}
}

func TestOutputFitsIntoOneMessage(t *testing.T) {
	const client = 16 << 20 // what a kubelet takes
	flood := bytes.Repeat([]byte("x"), maxOutput)
	svc := newFake()
	svc.exec = func(_ context.Context, req vm.ExecRequest) (vm.ExecResult, error) {
		if req.MaxOutput != maxOutput {
			t.Errorf("the guest may answer %d bytes, want %d", req.MaxOutput, maxOutput)
		}
		return vm.ExecResult{Stdout: flood, Stderr: flood, ExitCode: -1}, nil
	}
	got, err := newServer(t, svc).ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: "c", Cmd: []string{"yes"}})
	if err != nil {
		t.Fatal(err)
	}
	if size := proto.Size(got); size > client || size < client-8<<10 {
		t.Errorf("the message has %d bytes, want just under %d", size, client)
	}
}

func TestBothStreamsShareWhatThereIs(t *testing.T) {
	for _, tt := range []struct{ out, err, limit, wantOut, wantErr int }{
		{3, 3, 10, 3, 3},
		{5, 5, 10, 5, 5},
		{100, 0, 10, 10, 0},
		{0, 100, 10, 0, 10},
		{100, 2, 10, 8, 2},
		{2, 100, 10, 2, 8},
		{100, 100, 10, 5, 5},
		{100, 100, 11, 5, 6},
	} {
		out, errOut := capOutput(make([]byte, tt.out), make([]byte, tt.err), tt.limit)
		if len(out) != tt.wantOut || len(errOut) != tt.wantErr {
			t.Errorf("%d and %d bytes within %d became %d and %d, want %d and %d",
				tt.out, tt.err, tt.limit, len(out), len(errOut), tt.wantOut, tt.wantErr)
		}
	}
}
