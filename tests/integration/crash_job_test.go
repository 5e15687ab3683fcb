// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// jobMarks are the failpoints that only a container with a command and a data folder passes;
// the others are those of any pod's life.
var jobMarks = []string{"shares", "main-started", "main-exited"}

// TestJobKilledAtItsFailpoints kills vmlet with SIGKILL at each step that records what its
// command does. Nobody calls vmlet at that time: it has to find the rest by itself. Each
// job's exit code and output are as if nothing had happened.
func TestJobKilledAtItsFailpoints(t *testing.T) {
	kill, record := filepath.Join(t.TempDir(), "kill"), filepath.Join(t.TempDir(), "record")
	node := harness.StartNode(t, harness.WithEnv("VMLET_FAILPOINT_KILL="+kill))
	node.Stop()
	node.StartNotServing("VMLET_FAILPOINT_RECORD=" + record)
	node.WaitServing(time.Minute)
	job(t, node, "recorded", 3, nil)
	passed := lines(t, record)
	var marks []string
	for _, want := range jobMarks {
		found := slices.DeleteFunc(slices.Clone(passed), func(m string) bool { return !strings.Contains(m, want) })
		if len(found) == 0 {
			t.Errorf("a job passes no failpoint %q: %v", want, passed)
		}
		marks = append(marks, slices.Compact(found)...)
	}
	for i, mark := range marks {
		node.Stop()
		node.Start() // a process whose hits are counted from the job's begin
		if err := os.WriteFile(kill, fmt.Appendf(nil, "%s 1", mark), 0o600); err != nil {
			t.Fatal(err)
		}
		killed, begin := false, time.Now()
		job(t, node, fmt.Sprintf("victim-%d", i), int32(i+10), func() {
			<-node.Exited()
			killed = true
			if err := os.Remove(kill); err != nil {
				t.Fatal(err)
			}
			node.Stop() // forgets the dead process
			node.Start()
		})
		t.Logf("killed at %s: the job took %s", mark, time.Since(begin).Round(100*time.Millisecond))
		if !killed {
			t.Errorf("failpoint %s was never reached", mark)
			_ = os.Remove(kill) //nolint:errcheck // the failure is told already
		}
	}
}

// job runs a command to its end. Calls are repeated while vmlet is away; died is called
// then, and brings it back.
func job(t *testing.T, node *harness.Node, name string, code int32, died func()) {
	t.Helper()
	again := func(what string, call func() error) {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Minute); ; {
			err := call()
			switch {
			case err == nil:
				return
			case status.Code(err) == codes.Unavailable && died != nil:
				died()
			case errors.Is(err, errNotYet) && time.Now().Before(deadline):
				time.Sleep(50 * time.Millisecond)
			default:
				t.Fatalf("%s %s: %v", what, name, err)
			}
		}
	}
	data := dataFolder(t)
	spec := harness.Pod{
		Name: name, Command: []string{"sh", "-c", fmt.Sprintf("echo first; cat /data/file; exit %d", code)},
		Container: func(c *runtimeapi.ContainerConfig) {
			c.Mounts = []*runtimeapi.Mount{{ContainerPath: "/data", HostPath: data}}
		},
	}
	pod := node.RunSandbox(spec)
	again("create", func() error {
		r, err := node.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{
			PodSandboxId: pod.SandboxID, SandboxConfig: pod.Config, Config: node.ContainerConfig(spec, 0),
		})
		pod.ContainerID = r.GetContainerId()
		return err
	})
	again("start", func() error {
		_, err := node.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: pod.ContainerID})
		return err
	})
	again("see the end of", func() error {
		r, err := node.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: pod.ContainerID})
		if err != nil {
			return err
		}
		if st := r.GetStatus(); st.GetState() != runtimeapi.ContainerState_CONTAINER_EXITED {
			return errNotYet
		} else if st.GetExitCode() != code {
			t.Errorf("%s: exit %d %s (%s), want %d", name, st.GetExitCode(), st.GetReason(), st.GetMessage(), code)
		}
		return nil
	})
	if want := "first\nshared\n"; pod.Log() != want {
		t.Errorf("%s: log %q, want %q", name, pod.Log(), want)
	}
	pod.Remove()
}

func dataFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "file"), "shared\n")
	return dir
}
