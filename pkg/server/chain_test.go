// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/log"
)

func TestTheGateHoldsCallsBackUntilItIsOpened(t *testing.T) {
	gate := NewGate()
	r := serve(t, &stub{}, func(cfg *Config) {
		cfg.Gate = gate
		cfg.Ungated = []string{runtimeapi.RuntimeService_Version_FullMethodName}
	})
	want := func(message string) {
		t.Helper()
		_, err := r.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{})
		if status.Code(err) != codes.Unavailable || status.Convert(err).Message() != message {
			t.Errorf("got %v, want Unavailable: %s", err, message)
		}
	}
	want("vmlet is starting")
	gate.Recovering(3, 9)
	want("vmlet is starting: recovering 3 of 9 sandboxes")
	if _, err := r.Version(t.Context(), &runtimeapi.VersionRequest{}); err != nil {
		t.Errorf("an ungated method: %v", err)
	}
	health := healthpb.NewHealthClient(r.conn)
	for _, service := range []string{"", "runtime.v1.RuntimeService", "runtime.v1.ImageService"} {
		got, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil || got.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
			t.Errorf("health of %q is %s, %v; want NOT_SERVING", service, got.GetStatus(), err)
		}
	}

	watch, err := health.Watch(t.Context(), &healthpb.HealthCheckRequest{Service: "runtime.v1.RuntimeService"})
	if err != nil {
		t.Fatal(err)
	}
	gate.Open()
	gate.Open()
	for {
		got, err := watch.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if got.GetStatus() == healthpb.HealthCheckResponse_SERVING {
			break
		}
	}
	if _, err := r.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{}); err != nil {
		t.Errorf("after the gate was opened: %v", err)
	}
}

func TestAPanicIsAnErrorOfItsCallAlone(t *testing.T) {
	r := serve(t, &stub{run: func(context.Context) error { panic("s3cr3t state of mind") }}, nil)
	_, err := r.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{})
	if status.Code(err) != codes.Internal {
		t.Fatalf("got %v, want Internal", err)
	}
	if strings.Contains(err.Error(), "s3cr3t") || strings.Contains(err.Error(), ".go") {
		t.Errorf("the client learns too much: %v", err)
	}
	lines := r.log.FilterMessage("panic").All()
	if len(lines) != 1 {
		t.Fatalf("%d lines tell of the panic, want 1", len(lines))
	}
	fields := lines[0].ContextMap()
	if stack := fmt.Sprintf("%s", fields["stack"]); !strings.Contains(stack, "chain_test.go") {
		t.Errorf("the stack does not show where it was: %s", stack)
	}
	if request := fmt.Sprint(fields["request"]); request == "" || !strings.Contains(err.Error(), request) {
		t.Errorf("the client was told %q, the log names request %q", err, request)
	}
	if _, err := r.Version(t.Context(), &runtimeapi.VersionRequest{}); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

func TestLinesNameTheirRequestAndWhatItIsAbout(t *testing.T) {
	r := serve(t, &stub{start: func(ctx context.Context) error {
		log.From(ctx).Info("deep below")
		return fmt.Errorf("start container c1: %w", errdefs.ErrNotFound)
	}}, func(cfg *Config) {
		cfg.Describe = func(any) []zap.Field { return []zap.Field{zap.String("pod", "web-0")} }
	})
	if _, err := r.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: "c1"}); err == nil {
		t.Fatal("the error was lost")
	}
	below := r.log.FilterMessage("deep below").All()
	done := r.log.FilterMessage("call").All()
	if len(below) != 1 || len(done) != 1 {
		t.Fatalf("%d and %d lines, want one each", len(below), len(done))
	}
	for _, line := range []map[string]any{below[0].ContextMap(), done[0].ContextMap()} {
		if line["container"] != "c1" || line["pod"] != "web-0" || line["request"] == "" || line["request"] != done[0].ContextMap()["request"] {
			t.Errorf("line has %v, want container, pod and the request", line)
		}
	}
	line := done[0].ContextMap()
	if line["method"] != "runtime.v1.RuntimeService/StartContainer" || line["code"] != "NotFound" || line["error"] != "start container c1: not found" {
		t.Errorf("outcome is %v", line)
	}
	if line["pid"] != int32(os.Getpid()) || line["uid"] != uint32(os.Getuid()) {
		t.Errorf("the caller is told as %v of user %v", line["pid"], line["uid"])
	}
	if _, ok := line["took"]; !ok {
		t.Error("outcome has no duration")
	}

	if _, err := r.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{}); err != nil {
		t.Fatal(err)
	}
	all := r.log.FilterMessage("call").All()
	if got := all[len(all)-1].ContextMap()["sandbox"]; got != "made" {
		t.Errorf("the sandbox that was made is told as %v", got)
	}
}

// vmRequest is a message as those of vmlet.v1 that are about a VM.
type vmRequest string

func (r vmRequest) GetVm() string { return string(r) }

func TestACallOfAVMNamesIt(t *testing.T) {
	for _, tc := range []struct {
		message any
		want    []zap.Field
	}{
		{vmRequest("default/web"), []zap.Field{zap.String("vm", "default/web")}},
		{vmRequest(""), nil},
		{&runtimeapi.StopContainerRequest{ContainerId: "c1"}, []zap.Field{zap.String("container", "c1")}},
	} {
		if got := idFields(tc.message); !slices.Equal(got, tc.want) {
			t.Errorf("%T: %v, want %v", tc.message, got, tc.want)
		}
	}
}

func TestWhoOnlyAsksIsToldQuietly(t *testing.T) {
	loud := map[string]bool{
		"RunPodSandbox": true, "StopPodSandbox": true, "RemovePodSandbox": true, "CreateContainer": true,
		"StartContainer": true, "StopContainer": true, "RemoveContainer": true, "UpdateContainerResources": true,
		"ReopenContainerLog": true, "Exec": true, "Attach": true, "PortForward": true, "UpdateRuntimeConfig": true,
		"CheckpointContainer": true, "CheckpointPod": true, "RestorePod": true, "UpdatePodSandboxResources": true,
		"PullImage": true, "RemoveImage": true,
	}
	methods := map[string]string{"Check": "grpc.health.v1.Health/Check"}
	for _, m := range runtimeapi.RuntimeService_ServiceDesc.Methods {
		methods[m.MethodName] = "runtime.v1.RuntimeService/" + m.MethodName
	}
	for _, m := range runtimeapi.RuntimeService_ServiceDesc.Streams {
		methods[m.StreamName] = "runtime.v1.RuntimeService/" + m.StreamName
	}
	for _, m := range runtimeapi.ImageService_ServiceDesc.Methods {
		methods[m.MethodName] = "runtime.v1.ImageService/" + m.MethodName
	}
	for name := range loud {
		if methods[name] == "" {
			t.Errorf("%s is no method", name)
		}
	}
	for name, full := range methods {
		want := zapcore.DebugLevel
		if loud[name] {
			want = zapcore.InfoLevel
		}
		for _, code := range []codes.Code{codes.OK, codes.NotFound, codes.Unavailable} {
			if got := level(full, code); got != want {
				t.Errorf("%s ending in %s is told at %s, want %s", full, code, got, want)
			}
		}
		for _, code := range []codes.Code{codes.Internal, codes.Unknown, codes.DataLoss} {
			if got := level(full, code); got != zapcore.ErrorLevel {
				t.Errorf("%s ending in %s is told at %s, want error", full, code, got)
			}
		}
	}
}

func TestCallsAreCountedByMethodAndCode(t *testing.T) {
	r := serve(t, &stub{run: func(context.Context) error { return errdefs.ErrNotFound }}, nil)
	for range 2 {
		if _, err := r.Version(t.Context(), &runtimeapi.VersionRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{}); err == nil {
		t.Fatal("the error was lost")
	}
	page := httptest.NewRecorder()
	promhttp.HandlerFor(r.cfg.Metrics, promhttp.HandlerOpts{}).ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	for _, want := range []string{
		`vmlet_rpc_total{code="NotFound",method="runtime.v1.RuntimeService/RunPodSandbox"} 1`,
		`vmlet_rpc_total{code="OK",method="runtime.v1.RuntimeService/Version"} 2`,
		`vmlet_rpc_duration_seconds_count{code="NotFound",method="runtime.v1.RuntimeService/RunPodSandbox"} 1`,
		`vmlet_rpc_duration_seconds_count{code="OK",method="runtime.v1.RuntimeService/Version"} 2`,
	} {
		if !strings.Contains(page.Body.String(), want+"\n") {
			t.Errorf("without %s:\n%s", want, page.Body)
		}
	}
}
