// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kubelet

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/tests/harness"
)

func TestVolumes(t *testing.T) {
	k := harness.StartKubelet(t, patientNode(t))
	dir := t.TempDir()
	configMap := filepath.Join(dir, "config")
	must(t, os.MkdirAll(filepath.Join(dir, "data"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "big"), make([]byte, 2<<20), 0o644))
	writeAtomically(t, configMap, map[string]string{"one.conf": "one", "two.conf": "two"})
	const uid = "0b5d4c1e-0000-4000-8000-000000000002"
	applyVolumes := func(colour string) {
		k.ApplyFile("volumes", "/srv", dir, "  name: volumes\n", "  name: volumes\n  uid: "+uid+"\n", "colour: blue", "colour: "+colour)
	}
	runPods(t, []podScenario{
		{"environment and volumes of a pod", func() { applyVolumes("blue") }, func(t *testing.T) {
			k.WaitReady("volumes")
			vm := guest{t, k, "volumes"}
			vm.becomes("up", "echo up")
			t.Run("environment", func(t *testing.T) { environment(vm.of(t)) })
			t.Run("downward API", func(t *testing.T) {
				downward(vm.of(t))
				applyVolumes("green")
				vm.of(t).becomes(`colour="green"`, "grep colour /etc/podinfo/labels")
			})
			t.Run("a ConfigMap's folder and its updates", func(t *testing.T) {
				vm := vm.of(t)
				vm.is("one two one", "cd /etc/config; echo $(cat one.conf) $(cat two.conf) $(cat /etc/one.conf)")
				writeAtomically(t, configMap, map[string]string{"one.conf": "three", "two.conf": "four"})
				vm.becomes("three four", "cd /etc/config; echo $(cat one.conf) $(cat two.conf)")
				vm.is("one", "cat /etc/one.conf") // as in Kubernetes: a subPath is not updated
				vm.refused("echo no >/etc/config/one.conf")
			})
			t.Run("emptyDir", func(t *testing.T) { emptyDirs(vm.of(t), uid) })
			t.Run("hostPath", func(t *testing.T) { hostPaths(vm.of(t), dir) })
			deletePod(k, "volumes")
			if left, err := os.ReadFile(filepath.Join(dir, "data", "inner", "folder", "f")); err != nil || string(left) != "inner\n" {
				t.Errorf("of the pod's data is left: %q, %v", left, err)
			}
			k.Node.Eventually(time.Minute, func() error {
				_, err := os.Stat(podDir(k, uid))
				switch {
				case errors.Is(err, fs.ErrNotExist):
					return nil
				case err == nil:
					err = errors.New("the pod's own volumes are left")
				}
				return err
			})
		}},
		{"users, groups and read-only file systems", func() { k.ApplyFile("nonroot", "/srv", dir) }, func(t *testing.T) {
			k.WaitReady("nonroot")
			vm := guest{t, k, "nonroot"}
			vm.becomes("up", "echo up")
			permissions(vm)
			deletePod(k, "nonroot")
		}},
	})
	t.Run("what cannot be in a guest is refused", func(t *testing.T) { refusedHostPaths(t, k, dir) })
}

// guest is the VM of a pod.
type guest struct {
	t   *testing.T
	k   *harness.Kubelet
	pod string
}

func (g guest) of(t *testing.T) guest { return guest{t, g.k, g.pod} }

func (g guest) run(script string) (string, error) {
	return g.k.Running(g.pod).TryExec(g.t.Context(), "sh", "-c", script)
}

// is runs a script, which must succeed and print this.
func (g guest) is(want, script string) {
	g.t.Helper()
	if got, err := g.run(script); err != nil || got != want {
		g.t.Errorf("%s: %q, want %q, %v", script, got, want, err)
	}
}

// becomes waits until a script prints this.
func (g guest) becomes(want, script string) {
	g.t.Helper()
	g.k.Node.Eventually(3*time.Minute, func() error {
		got, err := g.run(script)
		if err == nil && got != want {
			err = fmt.Errorf("%s: %q, not %q", script, got, want)
		}
		return err
	})
}

// refused runs a script that must fail.
func (g guest) refused(script string) {
	g.t.Helper()
	if out, err := g.run(script); err == nil {
		g.t.Errorf("%s worked: %s", script, out)
	}
}

func environment(vm guest) {
	pod, err := vm.k.Pod(vm.pod)
	if err != nil {
		vm.t.Fatal(err)
	}
	vm.is("hello, $(POD_NAME)", "echo \"$GREETING\"") // as in Kubernetes: only what is above is expanded
	vm.is("volumes-node1 "+pod.Status.PodIP+" node1 demo 1", "echo $POD_NAME $POD_IP $NODE $APP $CPUS")
}

func downward(vm guest) {
	vm.is("app=\"demo\"\ncolour=\"blue\"", "cat /etc/podinfo/labels")
	vm.is("1", "cat /etc/limits/pod/cpus")
	vm.is("440 0 0", "stat -L -c '%a %u %g' /etc/limits/pod/cpus")
	vm.refused("echo no >/etc/limits/pod/cpus")
}

func emptyDirs(vm guest, uid string) {
	vm.is("777 0 0", "stat -c '%a %u %g' /scratch")
	vm.is("kept", "echo kept >/scratch/f && cat /scratch/f")
	if got, err := os.ReadFile(filepath.Join(podDir(vm.k, uid), "volumes", "kubernetes.io~empty-dir", "scratch", "f")); err != nil || string(got) != "kept\n" {
		vm.t.Errorf("the volume on the host: %q, %v", got, err)
	}
	vm.is("in memory", "echo in memory >/memory/f && cat /memory/f")
	vm.refused("dd if=/dev/zero of=/memory/big bs=1M count=9")
	vm.is("7", "rm /memory/big && dd if=/dev/zero of=/memory/big bs=1M count=7 2>/dev/null && echo $(($(stat -c %s /memory/big) >> 20))")
}

func hostPaths(vm guest, dir string) {
	vm.is("", "echo shared >/data/f; echo inner >/inner/f; echo mine >/mine/f; echo state >/state/file")
	for path, want := range map[string]string{
		"data/f": "shared\n", "data/inner/folder/f": "inner\n", "data/volumes-node1/f": "mine\n",
	} {
		if got, err := os.ReadFile(filepath.Join(dir, path)); err != nil || string(got) != want {
			vm.t.Errorf("%s on the host: %q, %v", path, got, err)
		}
	}
	waitShared(vm.k, "state", dir, "file")
	vm.is("shared", "cat /data-ro/f")
	vm.refused("echo no >/data-ro/f")
	vm.refused("mount -o remount,rw /data-ro && echo no >/data-ro/f")
	vm.is("2097152", "stat -c %s /state/big")
	vm.is("2097155", "printf end >>/state/big; stat -c %s /state/big")
	if got, err := os.Stat(filepath.Join(dir, "big")); err != nil || got.Size() != 2<<20+3 {
		vm.t.Errorf("the big file on the host: %v, %v", got, err)
	}
	must(vm.t, os.WriteFile(filepath.Join(dir, "file"), []byte("from the host\n"), 0o644))
	vm.becomes("from the host", "cat /state/file")
}

func permissions(vm guest) {
	// 50000 is a group that the image's own /etc/group gives the user (supplementalGroupsPolicy: Merge).
	vm.is("1000 3000 2000 3000 4000 50000", "echo $(id -u) $(id -g) $(id -G | tr ' ' '\\n' | sort -n | tr '\\n' ' ')")
	for _, volume := range []string{"/scratch", "/memory"} {
		vm.is("2000 setgid", "echo $(stat -c %g "+volume+") $([ -g "+volume+" ] && echo setgid)")
		vm.is("1000 2000", "echo x >"+volume+"/f && stat -c '%u %g' "+volume+"/f")
	}
	vm.is("nonroot-node1 2000", "echo $(cat /etc/podinfo/name) $(stat -L -c %g /etc/podinfo/name)")
	vm.refused("echo no >/data/nonroot") // a hostPath is not given to the group: the host's modes count
	for _, path := range []string{"/file", "/etc/file", "/usr/file", "/var/file"} {
		vm.refused("echo no >" + path)
	}
}

// refusedHostPaths has kubelet ask for what no guest can have: no VM is made, and the pod's events say what it is.
func refusedHostPaths(t *testing.T, k *harness.Kubelet, dir string) {
	socket, err := net.Listen("unix", filepath.Join(dir, "socket"))
	must(t, err)
	defer func() { must(t, socket.Close()) }()
	must(t, unix.Mknod(filepath.Join(dir, "block"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 250))))
	for name, tc := range map[string]struct{ path, kind, says string }{
		"socket":  {filepath.Join(dir, "socket"), "Socket", "is a socket, which cannot be had in a guest"},
		"char":    {"/dev/null", "CharDevice", "is a device, which cannot be had in a guest"},
		"block":   {filepath.Join(dir, "block"), "BlockDevice", "is a device, which cannot be had in a guest"},
		"missing": {filepath.Join(dir, "missing"), "Directory", "hostPath type check failed"},
		"wrong":   {filepath.Join(dir, "data"), "File", "hostPath type check failed"},
	} {
		k.Apply(name, fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  containers:
  - {name: vm, image: IMAGE, volumeMounts: [{name: v, mountPath: /v}]}
  volumes: [{name: v, hostPath: {path: %s, type: %s}}]
`, name, tc.path, tc.kind))
		event := k.WaitEvent(name, tc.says)
		if !strings.Contains(event, tc.path) {
			t.Errorf("the event does not name %s: %s", tc.path, event)
		}
		t.Log(event)
		k.Delete(name)
	}
}

// podDir is where kubelet has a pod's volumes.
func podDir(k *harness.Kubelet, uid string) string { return filepath.Join(k.Dir, "root", "pods", uid) }

// writeAtomically puts files into a folder as kubelet's atomic writer does, which keeps ConfigMaps, Secrets and projected
// tokens: all of them in a folder of this change, which the link ..data is moved to at once.
func writeAtomically(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	fresh, err := os.MkdirTemp(dir, "..2026_") //nolint:usetesting // in that very folder
	must(t, err)
	must(t, os.Chmod(fresh, 0o755))
	for name, text := range files {
		must(t, os.WriteFile(filepath.Join(fresh, name), []byte(text), 0o644))
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); !errors.Is(err, fs.ErrExist) {
			must(t, err)
		}
	}
	old, err := os.Readlink(filepath.Join(dir, "..data"))
	if !errors.Is(err, fs.ErrNotExist) {
		must(t, err)
	}
	must(t, os.Symlink(filepath.Base(fresh), filepath.Join(dir, "..data_tmp")))
	must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	if old != "" {
		must(t, os.RemoveAll(filepath.Join(dir, old)))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
