// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"flag"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// clock is when all tests happen.
var clock = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// world is a node on a socket, and the program that is run against it.
type world struct {
	*node

	socket string
	stdin  string
	env    map[string]string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{node: &node{}, socket: filepath.Join(socketFolder(t), "vmlet.sock")}
	listener, err := net.Listen("unix", w.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(w.intercept), grpc.StreamInterceptor(w.interceptStream))
	runtimeapi.RegisterRuntimeServiceServer(server, w.node)
	runtimeapi.RegisterImageServiceServer(server, w.node)
	vmletv1.RegisterImageServiceServer(server, store{node: w.node})
	vmletv1.RegisterDiskServiceServer(server, disks{node: w.node})
	vmletv1.RegisterVMServiceServer(server, vms{node: w.node})
	vmletv1.RegisterCheckpointServiceServer(server, checkpoints{node: w.node})
	vmletv1.RegisterNodeServiceServer(server, health{node: w.node})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return w
}

// socketFolder is a folder whose name leaves room for a socket's (107 bytes, unix(7)),
// which that of t.TempDir, made of the test's, may not.
func socketFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "ctl") //nolint:usetesting // its names are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	return folder
}

// result is what a run of the program left.
type result struct {
	stdout, stderr string
	code           int
}

// ctl runs the program against the node.
func (w *world) ctl(t *testing.T, args ...string) result {
	t.Helper()
	return w.ctlWithin(t.Context(), args...)
}

func (w *world) ctlWithin(ctx context.Context, args ...string) result {
	var stdout, stderr bytes.Buffer
	a := &app{
		in: strings.NewReader(w.stdin), out: &stdout, err: &stderr,
		env: func(key string) string {
			if key == addressEnv {
				return w.socket
			}
			return w.env[key]
		},
		now: func() time.Time { return clock }, poll: time.Millisecond,
	}
	code := a.run(ctx, args)
	return result{stdout.String(), stderr.String(), code}
}

// wantOK fails the test if the run did not end well.
func (r result) wantOK(t *testing.T) {
	t.Helper()
	if r.code != exitOK {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
}

// wantError wants one line as the end of stderr, after progress at most, that holds all of
// the texts.
func (r result) wantError(t *testing.T, code int, texts ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit %d, want %d", r.code, code)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(r.stderr, "\n"), "\n")
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, "vmletctl: ") || strings.Count(r.stderr, "vmletctl: ") != 1 {
		t.Errorf("the error is not the last line: %q", r.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(r.stderr, text) {
			t.Errorf("%q is not in %q", text, r.stderr)
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (go test -run %s -update writes it anew):\n%s", file, t.Name(), diff)
	}
}

// IDs of the pods below.
const (
	webID    = "1111aaaa000000000000000000000000"
	webBoot1 = "1111c001000000000000000000000000"
	webBoot2 = "1111c002000000000000000000000000"
	dbID     = "2222aaaa000000000000000000000000"
	dbBoot   = "2222c001000000000000000000000000"
	bareID   = "3333aaaa000000000000000000000000"
)

// addPods puts three pods on the node: web, which runs and was restarted once, db, which
// was killed and stopped, and bare, which has no VM.
func (w *world) addPods(logDir string) {
	ago := func(d time.Duration) int64 { return clock.Add(-d).UnixNano() }
	sandbox := func(id, namespace, name string, ready bool, created int64, ips ...string) {
		s := &runtimeapi.PodSandboxStatus{
			Id: id, CreatedAt: created, State: runtimeapi.PodSandboxState_SANDBOX_NOTREADY,
			Metadata: &runtimeapi.PodSandboxMetadata{Namespace: namespace, Name: name, Uid: "uid-" + name},
			Network:  &runtimeapi.PodSandboxNetworkStatus{},
		}
		if ready {
			s.State = runtimeapi.PodSandboxState_SANDBOX_READY
		}
		for i, ip := range ips {
			if i == 0 {
				s.Network.Ip = ip
				continue
			}
			s.Network.AdditionalIps = append(s.Network.AdditionalIps, &runtimeapi.PodIP{Ip: ip})
		}
		w.sandboxes = append(w.sandboxes, s)
	}
	container := func(sandbox, id string, attempt uint32, state runtimeapi.ContainerState, created int64) *runtimeapi.ContainerStatus {
		s := &runtimeapi.ContainerStatus{
			Id: id, State: state, CreatedAt: created, StartedAt: created,
			Metadata: &runtimeapi.ContainerMetadata{Name: "vm", Attempt: attempt},
			Image:    &runtimeapi.ImageSpec{Image: "registry.example/tiny:latest"}, ImageId: pulledID,
			LogPath: filepath.Join(logDir, short(id)+".log"),
		}
		w.containers = append(w.containers, &boot{sandbox: sandbox, status: s})
		return s
	}
	sandbox(webID, "default", "web", true, ago(3*time.Hour), "10.88.0.5", "fd00::5")
	old := container(webID, webBoot1, 0, runtimeapi.ContainerState_CONTAINER_EXITED, ago(3*time.Hour))
	old.FinishedAt, old.Reason = ago(2*time.Hour), "Completed"
	container(webID, webBoot2, 1, runtimeapi.ContainerState_CONTAINER_RUNNING, ago(2*time.Hour))

	sandbox(dbID, "shop", "db", false, ago(50*time.Hour))
	killed := container(dbID, dbBoot, 0, runtimeapi.ContainerState_CONTAINER_EXITED, ago(50*time.Hour))
	killed.FinishedAt, killed.ExitCode, killed.Reason = ago(time.Hour), 137, "Killed"
	killed.Message = "the guest did not power off in time and was destroyed"

	sandbox(bareID, "default", "bare", true, ago(7*time.Second), "10.88.0.6")
}
