// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// TestLibvirtdRestartsUnderRunningVMs: nothing happens to the VMs, Status tells the truth
// meanwhile, and events come back.
func TestLibvirtdRestartsUnderRunningVMs(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{Name: "steady"})
	other := node.Run(harness.Pod{Name: "ends"})
	boot := pod.WaitReady()
	other.WaitReady()

	harness.KillLibvirtd(t)
	node.Eventually(20*time.Second, func() error { return runtimeReady(t, node, false) })
	if st := pod.Status(); st.GetState() != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("without libvirt the container is %s", st.GetState())
	}
	signalQEMU(t, other, unix.SIGKILL) // nobody hears it
	harness.StartLibvirtd(t)
	node.Eventually(20*time.Second, func() error { return runtimeReady(t, node, true) })
	if st := other.WaitExited(); st.GetExitCode() != 137 {
		t.Errorf("what died meanwhile ended with %d %s", st.GetExitCode(), st.GetReason())
	}
	if got := pod.BootID(); got != boot {
		t.Errorf("boot ID %s, was %s", got, boot)
	}
	pod.ExecDetached("poweroff")
	if st := pod.WaitExited(); st.GetExitCode() != 0 || st.GetReason() != "Completed" {
		t.Errorf("after the restart, a poweroff ended with %d %s", st.GetExitCode(), st.GetReason())
	}
}

func runtimeReady(t *testing.T, node *harness.Node, want bool) error {
	t.Helper()
	r, err := node.Status(t.Context(), &runtimeapi.StatusRequest{})
	if err != nil {
		return err
	}
	for _, c := range r.GetStatus().GetConditions() {
		if c.GetType() != "RuntimeReady" {
			continue
		}
		if c.GetStatus() != want {
			return errNotYet
		}
		if !want && (c.GetReason() == "" || c.GetMessage() == "") {
			t.Errorf("RuntimeReady=false without reason or message: %v", c)
		}
	}
	return nil
}

// TestCNIThatFails: a plugin that fails, hangs or talks nonsense is a clear error in time,
// and leaves nothing.
func TestCNIThatFails(t *testing.T) {
	for name, tc := range map[string]struct{ script, want string }{
		"fails":   {`echo '{"cniVersion":"1.0.0","code":11,"msg":"no more addresses"}'; exit 1`, "no more addresses"},
		"garbage": {`echo 'hello'`, "broken"},
		"nothing": {`echo '{"cniVersion":"1.0.0"}'`, "there is no interface eth0"},
		"hangs":   {`sleep 1000 & wait`, "no answer within"},
	} {
		t.Run(name, func(t *testing.T) {
			node := harness.NewNode(t)
			plugin(t, node, tc.script)
			node.WriteCNI(`{"cniVersion":"1.0.0","name":"broken","plugins":[{"type":"broken"}]}`)
			node.Start()
			_, err := node.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: node.SandboxConfig(harness.Pod{Name: "p"})})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error = %v, want %q", err, tc.want)
			}
			if pods := pods(t, node); len(pods) != 0 {
				t.Errorf("pods: %v", pods)
			}
		})
	}
}

// plugin writes a CNI plugin that answers ADD by a script, and everything else well.
func plugin(t *testing.T, node *harness.Node, add string) {
	t.Helper()
	path := filepath.Join(node.RunDir, "plugins", "broken")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	text := "#!/bin/sh\ncat >/dev/null\ncase $CNI_COMMAND in ADD) " + add +
		" ;; VERSION) echo '{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[\"1.0.0\"]}' ;; esac\n"
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func pods(t *testing.T, node *harness.Node) []*runtimeapi.PodSandbox {
	t.Helper()
	r, err := node.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return r.GetItems()
}

// TestRegistryThatFails: a registry that drops, lies or serves a trap is a clear error,
// and nothing of it is kept.
func TestRegistryThatFails(t *testing.T) {
	node := harness.NewNode(t)
	node.Start()
	isBlob := func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/blobs/") }
	pull := func(image string) error {
		_, err := node.Images.PullImage(t.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: image}})
		return err
	}
	t.Run("drops the connection once", func(t *testing.T) {
		var dropped atomic.Bool
		harness.TheRegistry().Spoil(t, func(inner http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if isBlob(r) && r.Method == http.MethodGet && dropped.CompareAndSwap(false, true) {
					inner.ServeHTTP(&cutShort{ResponseWriter: w, left: 1000}, r)
					panic(http.ErrAbortHandler)
				}
				inner.ServeHTTP(w, r)
			})
		})
		if err := pull(harness.TinyImage()); err != nil || !dropped.Load() {
			t.Errorf("dropped %v, error %v", dropped.Load(), err)
		}
		remove(t, node, harness.TinyImage())
	})
	t.Run("lies about a digest", func(t *testing.T) {
		harness.TheRegistry().Spoil(t, func(inner http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if isBlob(r) && r.Method == http.MethodGet {
					w = &flipped{ResponseWriter: w}
				}
				inner.ServeHTTP(w, r)
			})
		})
		if err := pull(harness.TinyImage()); err == nil {
			t.Error("a changed blob was taken")
		}
	})
	t.Run("serves a disk with a backing file", func(t *testing.T) {
		disk := filepath.Join(t.TempDir(), "trap.qcow2")
		out, err := exec.CommandContext(t.Context(), "qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/shadow", disk, "1M").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		b, err := os.ReadFile(disk)
		if err != nil {
			t.Fatal(err)
		}
		if err := harness.TheRegistry().Push("trap:1", b); err != nil {
			t.Fatal(err)
		}
		if err := pull(harness.TheRegistry().Host + "/trap:1"); err == nil || !strings.Contains(err.Error(), "backing file") {
			t.Errorf("error = %v", err)
		}
	})
	images, err := node.Images.ListImages(t.Context(), &runtimeapi.ListImagesRequest{})
	if err != nil || len(images.GetImages()) != 0 {
		t.Errorf("images: %v, %v", images.GetImages(), err)
	}
	if left := filesBelow(t, filepath.Join(node.LibDir, "node", "images"), "part"); len(left) != 0 {
		t.Errorf("parts left: %v", left)
	}
}

func remove(t *testing.T, node *harness.Node, image string) {
	t.Helper()
	if _, err := node.Images.RemoveImage(t.Context(), &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: image}}); err != nil {
		t.Error(err)
	}
}

// cutShort breaks a body off after some bytes.
type cutShort struct {
	http.ResponseWriter
	left int
}

func (c *cutShort) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b[:min(len(b), c.left)])
	c.left -= n
	if c.left == 0 {
		if f, ok := c.ResponseWriter.(http.Flusher); ok {
			f.Flush()
		}
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// flipped changes one byte of a body.
type flipped struct {
	http.ResponseWriter
	done bool
}

func (f *flipped) Write(b []byte) (int, error) {
	if !f.done && len(b) > 100 {
		b = append([]byte(nil), b...)
		b[100] ^= 1
		f.done = true
	}
	return f.ResponseWriter.Write(b)
}

func filesBelow(t *testing.T, dir, part string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.IsDir() && strings.Contains(filepath.Base(path), part) {
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestDiskFull: a full disk while pulling and while creating is ResourceExhausted, leaves
// nothing behind, and is over when there is room again.
func TestDiskFull(t *testing.T) {
	node := harness.NewNode(t, harness.WithSmallRoot("64M"))
	root := filepath.Join(node.LibDir, "node")
	node.Start()
	fill := func() { fillUp(t, filepath.Join(root, "ballast")) }
	free := func() {
		if err := os.Remove(filepath.Join(root, "ballast")); err != nil {
			t.Fatal(err)
		}
	}
	fill()
	_, err := node.Images.PullImage(t.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: harness.TinyImage()}})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("pull: %v", err)
	}
	free()
	node.Pull(harness.TinyImage())
	pod := node.RunSandbox(harness.Pod{Name: "full"})
	fill()
	_, err = node.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{
		PodSandboxId: pod.SandboxID, SandboxConfig: pod.Config, Config: node.ContainerConfig(harness.Pod{Name: "full"}, 0),
	})
	if err == nil {
		t.Error("a container was created on a full disk")
	}
	free()
	pod.Create()
	pod.Start()
	pod.WaitReady()
}

// fillUp takes all the room of a file system.
func fillUp(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // ballast
	for _, size := range []int{1 << 20, 4096, 1} {
		block := make([]byte, size)
		for {
			if _, err := f.Write(block); err != nil {
				break
			}
		}
	}
}
