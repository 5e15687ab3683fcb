// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestExecEndsAsTheCommandDid(t *testing.T) {
	for code, want := range map[int32]int{0: 0, 3: 3, 255: 255, 256: 255, -1: 255} {
		w := newWorld(t)
		w.addPods("")
		w.exec = func(context.Context, *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
			return &runtimeapi.ExecSyncResponse{Stdout: []byte("out"), Stderr: []byte("err"), ExitCode: code}, nil
		}
		if got := w.ctl(t, "exec", "web", "--", "sh", "-c", "exit 3"); got != (result{"out", "err", want}) {
			t.Errorf("%d: got %+v", code, got)
		}
		if calls := w.called(); !slices.Equal(calls, []string{`ExecSync 1111c0020000 0 ["sh" "-c" "exit 3"]`}) {
			t.Errorf("called %q", calls)
		}
	}
}

func TestExecTellsVmletItsTimeout(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	w.exec = func(ctx context.Context, _ *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
		if deadline, ok := ctx.Deadline(); !ok || deadline.Sub(clock) < 0 {
			t.Error("no deadline")
		}
		return nil, status.Error(codes.DeadlineExceeded, "deadline exceeded after 2s")
	}
	w.ctl(t, "exec", "web", "--timeout", "1500ms", "--", "sleep", "9").
		wantError(t, exitFailed, "sleep in pod default/web did not end within 1.5s and was killed", "--timeout")
	if calls := w.called(); !slices.Equal(calls, []string{`ExecSync 1111c0020000 2 ["sleep" "9"]`}) {
		t.Errorf("called %q", calls)
	}
}

func TestExecNeedsAVM(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	w.ctl(t, "exec", "bare", "--", "true").wantError(t, exitFailed, "pod default/bare has no container")
}
