// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Usage is what a process of the node takes.
type Usage struct {
	Descriptors int
	Threads     int
	// RSS is in bytes.
	RSS int
}

func (u Usage) String() string {
	return fmt.Sprintf("%d descriptors, %d threads, %.1f MiB", u.Descriptors, u.Threads, float64(u.RSS)/(1<<20))
}

// Usage is what the daemon takes now.
func (n *Node) Usage() Usage {
	n.t.Helper()
	dir := filepath.Join("/proc", strconv.Itoa(n.PID()))
	descriptors, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		n.t.Fatal(err)
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		n.t.Fatal(err)
	}
	u := Usage{Descriptors: len(descriptors)}
	for line := range strings.Lines(string(status)) {
		fields := strings.Fields(line)
		switch fields[0] {
		case "VmRSS:":
			u.RSS = number(fields[1]) << 10
		case "Threads:":
			u.Threads = number(fields[1])
		}
	}
	return u
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return -1
	}
	return n
}

// RemoveEnded removes the sandboxes that are not ready, as kubelet's garbage collection does once in a minute, and
// proves that nothing is left of any. No pod may run.
func (n *Node) RemoveEnded() {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 2*time.Minute)
	defer cancel()
	pods, err := n.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		n.t.Fatal(err)
	}
	for _, p := range pods.GetItems() {
		if p.GetState() == runtimeapi.PodSandboxState_SANDBOX_READY {
			n.t.Errorf("sandbox %s of %s is ready", p.GetId(), p.GetMetadata().GetName())
		}
		if _, err := n.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: p.GetId()}); err != nil {
			n.t.Errorf("remove sandbox %s: %v", p.GetId(), err)
		}
	}
	n.Eventually(10*time.Second, func() error {
		left := leftBy(n.leftDomains, n.leftFiles, n.leftLinks, n.leftMounts, n.leftCgroups, n.leftRules)
		for _, program := range []string{"qemu-system", "virtiofsd"} {
			for _, pid := range Processes(n.t, program, n.LibDir+"/") {
				left = append(left, fmt.Sprintf("%s, process %d", program, pid))
			}
		}
		if len(left) > 0 {
			return fmt.Errorf("left behind:\n  %s", strings.Join(left, "\n  "))
		}
		return nil
	})
}
