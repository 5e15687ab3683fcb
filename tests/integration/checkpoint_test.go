// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
	"github.com/vmlet/vmlet/tests/harness"
)

// checkpointing is a node that may write checkpoints into a folder.
type checkpointing struct {
	*harness.Node

	t   *testing.T
	dir string
}

func newCheckpointing(t *testing.T, opts ...harness.NodeOption) checkpointing {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "checkpoints")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	opts = append(opts, harness.WithConfig(fmt.Sprintf("checkpoints: {allowedPaths: [%s]}", dir)))
	return checkpointing{harness.StartNode(t, opts...), t, dir}
}

func (n checkpointing) ctx() context.Context {
	ctx, cancel := context.WithTimeout(n.t.Context(), time.Minute)
	n.t.Cleanup(cancel)
	return ctx
}

// checkpoint writes a pod into a folder that is there.
func (n checkpointing) checkpoint(r *harness.Running, name string) error {
	dir := filepath.Join(n.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		n.t.Fatal(err)
	}
	_, err := n.CheckpointPod(n.ctx(), &runtimeapi.CheckpointPodRequest{PodSandboxId: r.SandboxID, OutputPath: dir, ContainerIds: []string{r.ContainerID}})
	return err
}

func (n checkpointing) restore(p harness.Pod, name string) (*runtimeapi.RestorePodResponse, error) {
	return n.RestorePod(n.ctx(), &runtimeapi.RestorePodRequest{
		CheckpointPath: filepath.Join(n.dir, name), Config: n.SandboxConfig(p), ContainerConfigs: []*runtimeapi.ContainerConfig{n.ContainerConfig(p, 0)},
	})
}

// mustRestore restores a pod, and sees that it is Created and as a kubelet finds it.
func (n checkpointing) mustRestore(p harness.Pod, name string) *harness.Running {
	n.t.Helper()
	resp, err := n.restore(p, name)
	if err != nil {
		n.t.Fatal(err)
	}
	r := n.Adopt(p, resp.GetPodSandboxId(), resp.GetRestoredContainers()[0].GetContainerId())
	if st := r.Status().GetState(); st != runtimeapi.ContainerState_CONTAINER_CREATED {
		n.t.Errorf("restored, the container is %s", st)
	}
	list, err := n.ListPodSandbox(n.ctx(), &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{Id: r.SandboxID}})
	if err != nil || len(list.GetItems()) != 1 || list.GetItems()[0].GetState() != runtimeapi.PodSandboxState_SANDBOX_READY ||
		list.GetItems()[0].GetMetadata().GetName() != p.Name {
		n.t.Errorf("listed is %v, %v", list.GetItems(), err)
	}
	return r
}

// holds lists what is in the folder of checkpoints.
func (n checkpointing) holds() (files []string) {
	n.t.Helper()
	if err := filepath.WalkDir(n.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, strings.TrimPrefix(path, n.dir+"/"))
		}
		return err
	}); err != nil {
		n.t.Fatal(err)
	}
	return files
}

// countInMemory is for a guest: how far it has counted is always there to be read.
const countInMemory = "(n=0; while :; do n=$((n+1)); echo $n >/run/next; mv /run/next /run/count; sleep 0.1; done) >/dev/null 2>&1 </dev/null &"

// TestACheckpointGoesOnInAnotherSandbox: a guest is written away while it runs, its pod is removed, and restored it goes on
// counting where it was: same boot, same disk, same address and MAC, in another sandbox.
func TestACheckpointGoesOnInAnotherSandbox(t *testing.T) {
	node := newCheckpointing(t)
	pod := harness.Pod{Name: "kept"}
	s := snapshotted{node.Run(pod), t, node.Node}
	s.WaitReady()
	s.Exec("sh", "-c", countInMemory)
	s.write("one")
	s.Exec("sh", "-c", "echo unsynced >/dev/shm/x 2>/dev/null || echo unsynced >/run/x")
	boot, ip, mac := s.BootID(), s.IP, s.Exec("cat", "/sys/class/net/eth0/address")
	counted := s.count()
	if err := node.checkpoint(s.Running, "one"); err != nil {
		t.Fatal(err)
	}
	s.remember("after")
	s.write("two") // after it
	if got := s.BootID(); got != boot || s.Status().GetState() != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("after it the guest is in boot %s, %s", got, s.Status().GetState())
	}
	s.only() // its chain is no longer than it was
	s.holds("two")
	for _, name := range []string{"manifest.json", "memory.save", "root.qcow2"} {
		info, err := os.Stat(filepath.Join(node.dir, "one", name))
		if err != nil || info.Mode().Perm() != 0o600 || info.Size() == 0 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if err := node.checkpoint(s.Running, "one"); status.Code(err) != codes.AlreadyExists {
		t.Errorf("another in its place: %v", err)
	}
	for name, p := range map[string]harness.Pod{"the same pod": pod, "another pod": {Name: "other"}} {
		if _, err := node.restore(p, "one"); status.Code(err) != codes.AlreadyExists {
			t.Errorf("restored as %s while it lives: %v", name, err)
		}
	}
	location := filepath.Join(node.dir, "checkpoint.tar")
	if _, err := node.CheckpointContainer(node.ctx(), &runtimeapi.CheckpointContainerRequest{ContainerId: s.ContainerID, Location: location, Timeout: 60}); err != nil {
		t.Errorf("CheckpointContainer: %v", err)
	}
	if err := os.RemoveAll(location); err != nil {
		t.Fatal(err)
	}
	s.Remove()

	before := node.holds()
	other := pod
	other.Command = []string{"sleep", "1"}
	if _, err := node.restore(other, "one"); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("with another process: %v", err)
	}
	if _, err := node.restore(harness.Pod{Name: "kept", Annotations: map[string]string{"vmlet.io/memory": "256Mi"}}, "one"); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("with another size: %v", err)
	}
	if list, err := node.ListContainers(node.ctx(), &runtimeapi.ListContainersRequest{}); err != nil || len(list.GetContainers()) > 0 {
		t.Errorf("left are %v, %v", list.GetContainers(), err)
	}

	s = snapshotted{node.mustRestore(pod, "one"), t, node.Node}
	if s.IP != ip {
		t.Errorf("its address is %s, was %s", s.IP, ip)
	}
	s.Start()
	if now := s.BootID(); now != boot {
		t.Errorf("boot %s, was %s", now, boot)
	}
	s.remembers("after", false)
	s.counts(counted)
	s.holds("one")
	if now := s.Exec("cat", "/sys/class/net/eth0/address"); now != mac {
		t.Errorf("its MAC is %s, was %s", now, mac)
	}
	if after := node.holds(); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Errorf("the checkpoint has become %v, was %v", after, before)
	}
	s.only()
	// Every address that the network gave answers, also one that it would not give again.
	st, err := node.PodSandboxStatus(node.ctx(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: s.SandboxID})
	if err != nil {
		t.Fatal(err)
	}
	for _, more := range st.GetStatus().GetNetwork().GetAdditionalIps() {
		s.IP = more.GetIp()
		if now := s.BootID(); now != boot {
			t.Errorf("by %s boot %s answers", s.IP, now)
		}
	}
	// The machine is whole: it is checkpointed again, by vmletctl, comes back once more, stops in its own way, and boots
	// from the disk it has.
	two := filepath.Join(node.dir, "two")
	node.ctl(true, "checkpoint", "kept", two)
	node.ctl(false, "restore", two)
	node.ctl(true, "rm", "-f", "kept")
	fields := strings.Fields(node.ctl(true, "restore", two))
	s = snapshotted{node.Adopt(pod, fields[len(fields)-2], fields[len(fields)-1]), t, node.Node}
	if now := s.BootID(); now != boot {
		t.Errorf("boot %s, was %s", now, boot)
	}
	s.write("three")
	stop(t, node.Node, s.ContainerID, 30)
	s.Create()
	s.Start()
	s.WaitBoots(1)
	s.holds("three")
}

// ctl runs vmletctl, which succeeds or not, and returns what it prints.
func (n checkpointing) ctl(ok bool, args ...string) string {
	n.t.Helper()
	out, err := exec.CommandContext(n.ctx(), harness.Bin("vmletctl"), append([]string{"-a", n.Socket()}, args...)...).CombinedOutput()
	n.t.Logf("vmletctl %s\n%s", strings.Join(args, " "), out)
	if (err == nil) != ok {
		n.t.Fatalf("vmletctl %v: %v", args, err)
	}
	return string(out)
}

// TestARestoredCommandRunsOnAtAnotherAddress: its output, its exit and its stop are those of the new container, and the
// guest takes the addresses that it is given.
func TestARestoredCommandRunsOnAtAnotherAddress(t *testing.T) {
	node := newCheckpointing(t)
	pod := harness.Pod{Name: "command", Command: []string{"sh", "-c", "n=0; while [ ! -e /run/end ]; do n=$((n+1)); echo line $n; sleep 0.2; done; exit 7"}}
	r := node.Run(pod)
	node.Eventually(2*time.Minute, func() error {
		if !strings.Contains(r.Log(), "line 5") {
			return fmt.Errorf("its log is %q", r.Log())
		}
		return nil
	})
	if err := node.checkpoint(r, "command"); err != nil {
		t.Fatal(err)
	}
	was, mac := r.IP, r.Exec("cat", "/sys/class/net/eth0/address")
	r.Remove()
	if err := os.Remove(r.LogPath()); err != nil {
		t.Fatal(err)
	}
	// Somebody else has the address by now.
	leases, err := filepath.Glob(filepath.Join(node.Leases, "*"))
	if err != nil || len(leases) != 1 {
		t.Fatal(leases, err)
	}
	lease := filepath.Join(leases[0], was)
	if err := os.WriteFile(lease, []byte("somebody else\r\neth0"), 0o600); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(lease) //nolint:errcheck // the node's end looks
	r = node.mustRestore(pod, "command")
	if r.IP == was {
		t.Fatalf("it was given %s, which is another's", was)
	}
	r.Start()
	if body, err := eventually(node, func() (string, error) { return r.HTTP("/boot-id") }); err != nil || body == "" {
		t.Errorf("at %s: %q, %v", r.IP, body, err)
	}
	if now := r.Exec("cat", "/sys/class/net/eth0/address"); now == mac {
		t.Errorf("it still has the MAC %s", now)
	}
	node.Eventually(time.Minute, func() error {
		if strings.Contains(r.Log(), "line 1\n") || !strings.Contains(r.Log(), "line ") {
			return fmt.Errorf("its log is %q", r.Log())
		}
		return nil
	})
	node.Kill9() // the new vmlet finds the command by the name that the guest knows it by
	node.Start()
	r.Exec("touch", "/run/end")
	if st := r.WaitExited(); st.GetExitCode() != 7 {
		t.Errorf("it exited with %d: %s", st.GetExitCode(), st.GetMessage())
	}
}

func eventually(node checkpointing, get func() (string, error)) (out string, err error) {
	node.Eventually(time.Minute, func() error {
		out, err = get()
		return err
	})
	return out, err
}

// TestKilledAtEveryStepOfACheckpoint: vmlet is killed at each failpoint that a checkpoint of a VM with a data disk, its restore and
// the start after that pass. Its next life leaves no half of either, and the call can be repeated; the disks are as they were.
func TestKilledAtEveryStepOfACheckpoint(t *testing.T) {
	kill := filepath.Join(t.TempDir(), "kill")
	record := filepath.Join(t.TempDir(), "record")
	node := newCheckpointing(t, harness.WithEnv("VMLET_FAILPOINT_KILL="+kill))
	pod := harness.Pod{Name: "killed"}
	s := snapshotted{node.Run(pod), t, node.Node}
	s.WaitReady()
	s.mustAttachData("data", 8*mib)
	s.writeBoth("kept")
	boot := s.BootID()
	node.Stop()
	node.StartNotServing("VMLET_FAILPOINT_RECORD=" + record)
	node.WaitServing(time.Minute)
	so := 0
	marked := func() []string {
		marks := lines(t, record)[so:]
		so += len(marks)
		return marks
	}
	marked()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(node.checkpoint(s.Running, "kept"))
	s.onlyWithData()
	s.writeBoth("later")
	writing := marked()
	dieAt := func(mark string, pass int, call func() error) bool {
		node.Stop()
		node.Start()
		must(os.WriteFile(kill, fmt.Appendf(nil, "%s %d", mark, pass), 0o600))
		err := call()
		select {
		case <-node.Exited():
		case <-time.After(5 * time.Second): // what goes on after the call
			t.Errorf("failpoint %s, pass %d, was never reached: %v", mark, pass, err)
			return false
		}
		if err := os.Remove(kill); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		node.Stop() // forgets the dead process
		node.Start()
		return true
	}
	seen := map[string]int{}
	written := false
	for _, mark := range writing {
		seen[mark]++
		written = written || mark == "store/checkpoint-written/after"
		var called error
		if !dieAt(mark, seen[mark], func() error { called = node.checkpoint(s.Running, "again"); return called }) {
			continue
		}
		if st := s.Status().GetState(); st != runtimeapi.ContainerState_CONTAINER_RUNNING {
			t.Fatalf("killed at %s: the container is %s", mark, st)
		}
		s.onlyWithData()
		if called != nil { // nobody was told of a checkpoint
			node.Eventually(10*time.Second, func() error {
				// The last moment is when it is on record; what is whole by then stays, as after an answer that was lost.
				files := node.holds()
				if len(files) != 4 && (!written || len(files) != 8) {
					return fmt.Errorf("killed at %s: the checkpoint has left %v", mark, files)
				}
				return node.operationSays(s.SandboxID, len(files) == 8)
			})
		}
		must(os.RemoveAll(filepath.Join(node.dir, "again")))
	}
	if now := s.BootID(); now != boot {
		t.Errorf("boot %s, was %s", now, boot)
	}
	s.holdBoth("later")
	s.Remove()

	node.Stop()
	node.StartNotServing("VMLET_FAILPOINT_RECORD=" + record)
	node.WaitServing(time.Minute)
	marked()
	r := node.mustRestore(pod, "kept")
	restoring := marked()
	r.Start()
	starting := marked()
	r.Remove()
	t.Log("checkpoint", writing, "restore", restoring, "start", starting)
	clear(seen)
	for _, mark := range restoring {
		seen[mark]++
		if !dieAt(mark, seen[mark], func() error { _, err := node.restore(pod, "kept"); return err }) {
			continue
		}
		resp, err := node.restore(pod, "kept")
		if status.Code(err) == codes.AlreadyExists && mark == restoring[len(restoring)-1] {
			continue // it was all there, and nobody was told
		}
		if err != nil {
			t.Fatalf("killed at %s: again: %v", mark, err)
		}
		r = node.Adopt(pod, resp.GetPodSandboxId(), resp.GetRestoredContainers()[0].GetContainerId())
		r.Remove()
	}
	node.removeAll()
	clear(seen)
	for _, mark := range starting {
		seen[mark]++
		r = node.mustRestore(pod, "kept")
		if !dieAt(mark, seen[mark], func() error {
			_, err := node.StartContainer(node.ctx(), &runtimeapi.StartContainerRequest{ContainerId: r.ContainerID})
			return err
		}) {
			r.Remove()
			continue
		}
		if r.Status().GetState() == runtimeapi.ContainerState_CONTAINER_CREATED {
			r.Start()
		}
		if now := r.BootID(); now != boot {
			t.Errorf("killed at %s: boot %s, was %s", mark, now, boot)
		}
		restored := snapshotted{r, t, node.Node}
		restored.holdBoth("kept")
		restored.onlyWithData()
		r.Remove()
	}
}

// operationSays looks whether the last checkpoint's operation says what has become of it.
func (n checkpointing) operationSays(sandboxID string, whole bool) error {
	all, err := n.VMs.ListOperations(n.ctx(), &vmletv1.ListOperationsRequest{Vm: sandboxID})
	if err != nil || len(all.GetOperations()) == 0 {
		return fmt.Errorf("operations are %v: %w", all, err)
	}
	last := all.GetOperations()[len(all.GetOperations())-1]
	if !strings.HasSuffix(last.GetSubject(), "/again") {
		return nil // killed before there was one
	}
	want := vmletv1.OperationState_OPERATION_STATE_FAILED
	if whole {
		want = vmletv1.OperationState_OPERATION_STATE_SUCCEEDED
	}
	if last.GetState() != want {
		return fmt.Errorf("the operation is %v, want %s", last, want)
	}
	return nil
}

// removeAll removes all pods of the node.
func (n checkpointing) removeAll() {
	n.t.Helper()
	list, err := n.ListPodSandbox(n.ctx(), &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		n.t.Fatal(err)
	}
	for _, sb := range list.GetItems() {
		if _, err := n.RemovePodSandbox(n.ctx(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: sb.GetId()}); err != nil {
			n.t.Fatal(err)
		}
	}
}
