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
	k := newKiller(t)
	node := harness.StartNode(t, k.watched())
	k.node = node
	passed := k.passes(len(jobMarks), func() { job(t, node, "recorded", 3, nil) })
	for _, want := range jobMarks {
		found := false
		for i, mark := range passed {
			if !strings.Contains(mark, want) || slices.Contains(passed[:i], mark) {
				continue
			}
			found = true
			begin := time.Now()
			k.arm(passed, i)
			job(t, node, fmt.Sprintf("victim-%d", i), int32(i+10), k)
			k.mustHaveDied(passed, i)
			t.Logf("killed at %s: the job took %s", mark, time.Since(begin).Round(100*time.Millisecond))
		}
		if !found {
			t.Errorf("a job passes no failpoint %q: %v", want, passed)
		}
	}
}

// job runs a command to its end. Calls are repeated while vmlet is away, when k has brought it back.
func job(t *testing.T, node *harness.Node, name string, code int32, k *killer) {
	t.Helper()
	again := func(what string, call func() error) {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Minute); ; {
			err := call()
			switch {
			case err == nil:
				return
			case status.Code(err) == codes.Unavailable && k != nil:
				k.revive()
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
