// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// In is the kubelet as a subtest has it: what fails, fails that subtest. To start and end kubelet, or its node, is
// for the test that has them.
func (k *Kubelet) In(t *testing.T) *Kubelet {
	n := k.Node
	return &Kubelet{t: t, Dir: k.Dir, cfg: k.cfg, client: k.client, Node: &Node{
		t: t, RuntimeServiceClient: n.RuntimeServiceClient, Images: n.Images, conn: n.conn,
		name: n.name, number: n.number, RunDir: n.RunDir, LibDir: n.LibDir, Leases: n.Leases,
	}}
}

// SandboxFiles are the names of what the node keeps of a sandbox on its disk.
func (n *Node) SandboxFiles(id string) (names []string) {
	n.t.Helper()
	entries, err := os.ReadDir(n.node().Sandbox(id))
	if err != nil {
		n.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// QEMU is the process of the pod's VM.
func (r *Running) QEMU() int {
	r.node.t.Helper()
	id := r.SandboxID
	uuid := strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:]}, "-")
	pids := Processes(r.node.t, "-uuid\x00"+uuid)
	if len(pids) != 1 {
		r.node.t.Fatalf("processes %v have the UUID %s, not one QEMU", pids, uuid)
	}
	return pids[0]
}

// PodLogs are the log files of a container of a pod as they are on disk, oldest attempt first.
func (k *Kubelet) PodLogs(name, container string) []string {
	k.t.Helper()
	files, err := filepath.Glob(filepath.Join(k.LogDir(), "default_"+name+"-"+kubeletNode+"_*", container, "*.log"))
	if err != nil {
		k.t.Fatal(err)
	}
	return files
}

// WaitRunning waits until a pod's VM runs.
func (k *Kubelet) WaitRunning(name string) *KubePod {
	k.t.Helper()
	return k.WaitRestarts(name, 0)
}

// RemoveAll takes all manifests away, and waits until kubelet has ended the pods.
func (k *Kubelet) RemoveAll() {
	k.t.Helper()
	k.removeAll()
}
