// SPDX-License-Identifier: Apache-2.0

//go:build integration && measure

// A measurement for qemuOverhead in pkg/lifecycle/size.go, by hand: it fills a guest to the
// brim, and on a busy host the guest's own OOM killer may end the filling.

package integration

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
	"github.com/vmlet/vmlet/tests/harness"
)

// touchAll fills the guest's memory with a file in it while its disk and its code are at
// work, so that all that QEMU keeps beside the guest's RAM is there too.
const touchAll = `
for agent in $(pidof qemu-ga); do echo -1000 >/proc/$agent/oom_score_adj; done
mkdir -p /tmp/fill && mount -t tmpfs -o size=100% none /tmp/fill
free=$(awk '/MemAvailable/ {print int($2 / 1024) - 16}' /proc/meminfo)
dd if=/dev/vda of=/dev/null bs=1M 2>/dev/null &
dd if=/dev/zero bs=1M count=$free 2>/dev/null | tr '\0' 'x' >/tmp/fill/all
find / -xdev -type f -exec md5sum {} + >/dev/null 2>&1
wait
ls -l /tmp/fill/all | awk '{print int($5 / 1048576)}'
`

// TestAGuestThatTouchesAllItsMemoryFitsItsLimit: what QEMU takes beside the guest's RAM is
// within what is taken off the limit for it, so that no guest is killed for using what it has.
func TestAGuestThatTouchesAllItsMemoryFitsItsLimit(t *testing.T) {
	const limit = 256 << 20
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{Name: "fill", Resources: &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: limit}})
	pod.WaitReady()
	filled := pod.Exec("sh", "-c", touchAll)
	if st := pod.Status(); st.GetState() != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Fatalf("container is %s: %s (%s)", st.GetState(), st.GetReason(), st.GetMessage())
	}
	peak, failed := groupCounter(t, pod, "memory.max_usage_in_bytes"), groupCounter(t, pod, "memory.failcnt")
	t.Logf("%s MiB filled; the group's peak is %d MiB of %d", filled, peak>>20, limit>>20)
	if failed > 0 {
		t.Errorf("the group was at its limit %d times", failed)
	}
	// Its RAM is QEMU's still when the firmware maps the devices once more.
	if _, err := reboot(t.Context(), node, pod.SandboxID, vmletv1.RebootMode_REBOOT_MODE_RESET); err != nil {
		t.Fatal(err)
	}
	pod.WaitBoots(2)
	t.Logf("after a reboot its peak is %d MiB", groupCounter(t, pod, "memory.max_usage_in_bytes")>>20)
}

func groupCounter(t *testing.T, pod *harness.Running, name string) int64 {
	t.Helper()
	found, err := filepath.Glob("/sys/fs/cgroup/memory/vmlet/*" + pod.SandboxID + "*/" + name)
	if err != nil || len(found) != 1 {
		t.Fatalf("%s of the VM's group: %v, %v", name, found, err)
	}
	b, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
