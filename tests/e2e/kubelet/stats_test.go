// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kubelet

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vmlet/vmlet/tests/harness"
)

const measured = `apiVersion: v1
kind: Pod
metadata: {name: measured}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: vm
    image: IMAGE
    resources: {limits: {cpu: "1", memory: 400Mi}}
    readinessProbe: {exec: {command: [pgrep, httpd]}, periodSeconds: 1}
`

const mib = 1 << 20

// overhead is what QEMU may take beside the guest's memory.
const overhead = 158 * mib

// TestStatisticsThroughKubelet: what kubelet tells of a VM agrees with what the kernel has counted for QEMU, and with
// what the guest sees of itself.
func TestStatisticsThroughKubelet(t *testing.T) {
	node := harness.StartNode(t)
	k := harness.StartKubelet(t, node)
	k.Apply("measured", measured)
	k.WaitReady("measured")
	m := &meter{t: t, k: k, vm: k.Running("measured")}

	t.Run("CPU time", m.cpu)
	t.Run("memory", m.memory)
	t.Run("disk", m.disk)
	t.Run("metrics/resource tells the same", m.resource)

	// Then kubelet asks for pods' statistics, and its cAdvisor has none of containers.
	k.Reconfigure("featureGates: {PodAndContainerStatsFromCRI: true}")
	m.t = t
	t.Run("network, by CRI's statistics of pods", m.network)
	t.Run("metrics/cadvisor by CRI", m.cadvisor)
}

// meter compares what kubelet tells of a pod with other views of it.
type meter struct {
	t  *testing.T
	k  *harness.Kubelet
	vm *harness.Running
}

func (m *meter) sample() harness.PodStats { return m.k.Stats("measured", time.Now()) }

// numbers are the numbers that a command in the guest prints.
func (m *meter) numbers(command string) (numbers []float64) {
	m.t.Helper()
	for field := range strings.FieldsSeq(m.vm.Exec("sh", "-c", command)) {
		n, err := strconv.ParseFloat(field, 64)
		if err != nil {
			m.t.Fatalf("%s: %v", command, err)
		}
		numbers = append(numbers, n)
	}
	return numbers
}

// qemuCPU is QEMU's CPU time by proc(5), in seconds: utime and stime, in ticks of 1/100 s.
func (m *meter) qemuCPU() float64 {
	m.t.Helper()
	pids := harness.Processes(m.t, "guest="+m.vm.DomainName())
	if len(pids) != 1 {
		m.t.Fatalf("processes %v are QEMU's", pids)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pids[0]))
	if err != nil {
		m.t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndex(string(stat), ")")+1:]))
	return (atoi(m.t, fields[11]) + atoi(m.t, fields[12])) / 100
}

func atoi(t *testing.T, text string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func seconds(s harness.PodStats) float64 { return float64(s.VM().CPU.UsageCoreNanoSeconds) / 1e9 }

// cpu: the CPU time between two samples is that of QEMU's process between readings before and after each of them (to
// 50 ms, as ticks go). Of the guest's own view it is at most twice, and 3 s, since QEMU works for its devices beside; and at
// least a twentieth: under software emulation the guest takes for its own what a busy host takes from its vCPU.
func (m *meter) cpu(t *testing.T) {
	m.t = t
	const busy = `awk '/^cpu / { print ($2 + $3 + $4 + $7 + $8) / 100 }' /proc/stat`
	before := m.qemuCPU()
	first := m.sample()
	begun := m.qemuCPU()
	own := m.numbers(busy + `; timeout 3 sh -c 'while :; do :; done'; ` + busy)
	ended := m.qemuCPU()
	second := m.sample()
	after := m.qemuCPU()

	took, guest := seconds(second)-seconds(first), own[1]-own[0]
	t.Logf("%.2f s by kubelet; QEMU's process between %.2f and %.2f s; %.2f s of them the guest was busy", took, ended-begun, after-before, guest)
	if took < ended-begun-0.05 || took > after-before+0.05 {
		t.Errorf("the CPU time is not that of QEMU's process")
	}
	if took < guest/20 || took > 2*guest+3 {
		t.Errorf("the CPU time is not in the bounds of the guest's view")
	}
	// kubelet makes it of two looks of its own, ten seconds apart.
	m.k.Node.Eventually(30*time.Second, func() error {
		if m.sample().VM().CPU.UsageNanoCores == 0 {
			return errors.New("there is no rate")
		}
		return nil
	})
}

// memory: the working set holds at least what the guest has in use, and at most its RAM and what QEMU takes. 48 MiB more
// that the guest writes are 32 to 64 more there: pages it had touched before are in it already.
func (m *meter) memory(t *testing.T) {
	m.t = t
	const look = `awk '/MemTotal/ { total = $2 * 1024 } /MemAvailable/ { print total, total - $2 * 1024 }' /proc/meminfo`
	used := func() float64 {
		t.Helper()
		own, stats := m.numbers(look), m.sample().VM().Memory
		total, inUse, working := own[0], own[1], float64(stats.WorkingSetBytes)
		t.Logf("%.0f MiB by kubelet; the guest uses %.0f of %.0f MiB", working/mib, inUse/mib, total/mib)
		if working < inUse || working > total+overhead {
			t.Errorf("the working set is out of bounds")
		}
		if sum := stats.AvailableBytes + stats.WorkingSetBytes; sum != 400*mib {
			t.Errorf("available and working set are %d bytes together, not the limit", sum)
		}
		return working
	}
	before := used()
	m.vm.Exec("dd", "if=/dev/zero", "of=/tmp/fill", "bs=1M", "count=48")
	if more := used() - before; more < 32*mib || more > 64*mib {
		t.Errorf("48 MiB more in the guest are %.0f MiB more in kubelet", more/mib)
	}
	m.vm.Exec("rm", "/tmp/fill")
}

// disk: what the root file system uses are the blocks of the VM's overlay on the host (to 1 MiB: the guest writes on), and
// 16 MiB that the guest writes are 16 to 20 more.
func (m *meter) disk(t *testing.T) {
	m.t = t
	first := m.sample()
	m.vm.Exec("dd", "if=/dev/urandom", "of=/fill", "bs=1M", "count=16", "conv=fsync")
	second := m.sample()
	blocks := float64(diskBlocks(t, m.k.Node, m.vm.SandboxID))
	used, more := float64(second.VM().Rootfs.UsedBytes), float64(second.VM().Rootfs.UsedBytes)-float64(first.VM().Rootfs.UsedBytes)
	t.Logf("%.1f MiB by kubelet, %.1f MiB in the overlay, %.1f more than before", used/mib, blocks/mib, more/mib)
	if math.Abs(used-blocks) > mib {
		t.Error("kubelet does not tell what the overlay takes")
	}
	if more < 16*mib || more > 20*mib {
		t.Error("kubelet does not see what the guest writes")
	}
}

// diskBlocks are the bytes that a sandbox's overlay takes.
func diskBlocks(t *testing.T, node *harness.Node, sandboxID string) (total int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(node.LibDir, "node", "sandboxes", sandboxID, "root-*.qcow2"))
	if err != nil || len(files) == 0 {
		t.Fatalf("overlays: %v, %v", files, err)
	}
	for _, file := range files {
		var st syscall.Stat_t
		if err := syscall.Stat(file, &st); err != nil {
			t.Fatal(err)
		}
		total += st.Blocks * 512
	}
	return total
}

// resource: what is told between two samples is between them.
func (m *meter) resource(t *testing.T) {
	m.t = t
	first := m.sample()
	metric := func(name string, labels ...string) float64 {
		t.Helper()
		value, err := m.k.Metric("/metrics/resource", name, "measured", labels...)
		if err != nil {
			t.Error(err)
		}
		return value
	}
	cpu := metric("container_cpu_usage_seconds_total", `container="vm"`)
	memory := metric("container_memory_working_set_bytes", `container="vm"`)
	started := metric("container_start_time_seconds", `container="vm"`)
	second := m.sample()
	if cpu < seconds(first) || cpu > seconds(second) {
		t.Errorf("%f s of CPU time, between %f and %f", cpu, seconds(first), seconds(second))
	}
	if now := float64(second.VM().Memory.WorkingSetBytes); math.Abs(memory-now) > 16*mib {
		t.Errorf("a working set of %.0f MiB, and of %.0f MiB then", memory/mib, now/mib)
	}
	if first.Network != nil {
		t.Error("kubelet has found a network in its own cAdvisor: docs/kubelet.md says that it does not")
	}
	if at := time.Unix(int64(started), 0); time.Since(at) > 10*time.Minute || time.Until(at) > 0 {
		t.Errorf("started at %s", at)
	}
}

// network: between two samples the pod's interface has carried what the guest has counted at its own, to 16 KiB: the
// kernels of both sides chat on.
func (m *meter) network(t *testing.T) {
	m.t = t
	const size = 512 << 10
	counters := func() (own []float64, told harness.NetworkStats) {
		own = m.numbers(`sed -n 's/.*eth0: *//p' /proc/net/dev | awk '{ print $1, $9 }'`)
		sample := m.sample()
		if sample.Network == nil {
			t.Fatal("the pod has no network in the summary")
		}
		return own, *sample.Network
	}
	m.vm.Exec("dd", "if=/dev/zero", "of=/run/www/big", "bs=1k", fmt.Sprint("count=", size>>10))
	own, told := counters()
	if _, err := m.vm.HTTP("/big"); err != nil {
		t.Fatal(err)
	}
	ownAfter, toldAfter := counters()
	for what, pair := range map[string][2]float64{
		"received": {ownAfter[0] - own[0], float64(toldAfter.RxBytes) - float64(told.RxBytes)},
		"sent":     {ownAfter[1] - own[1], float64(toldAfter.TxBytes) - float64(told.TxBytes)},
	} {
		t.Logf("%s: %.0f bytes by the guest, %.0f by kubelet", what, pair[0], pair[1])
		if math.Abs(pair[0]-pair[1]) > 16<<10 || what == "sent" && pair[1] < size {
			t.Errorf("the guest has %s %.0f bytes, kubelet tells %.0f", what, pair[0], pair[1])
		}
	}
}

// cadvisor: kubelet's page has what ListPodSandboxMetrics gives, in whole seconds of CPU time.
func (m *meter) cadvisor(t *testing.T) {
	m.t = t
	const page = "/metrics/cadvisor"
	first := m.sample()
	metric := func(name string, labels ...string) float64 {
		t.Helper()
		value, err := m.k.Metric(page, name, "measured", labels...)
		if err != nil {
			t.Error(err)
		}
		return value
	}
	cpu := metric("container_cpu_usage_seconds_total", `container="vm"`)
	memory := metric("container_memory_working_set_bytes", `container="vm"`)
	received := metric("container_network_receive_bytes_total", `interface="eth0"`)
	limit := metric("container_spec_memory_limit_bytes", `container="vm"`)
	used := metric("container_fs_usage_bytes", `container="vm"`)
	second := m.sample()
	if cpu < seconds(first)-1 || cpu > seconds(second) {
		t.Errorf("%f s of CPU time, between %f and %f", cpu, seconds(first), seconds(second))
	}
	if now := float64(second.VM().Memory.WorkingSetBytes); math.Abs(memory-now) > 16*mib {
		t.Errorf("a working set of %.0f MiB, and of %.0f MiB then", memory/mib, now/mib)
	}
	if received < float64(first.Network.RxBytes) || received > float64(second.Network.RxBytes) {
		t.Errorf("%.0f bytes received, between %d and %d", received, first.Network.RxBytes, second.Network.RxBytes)
	}
	if limit != 400*mib {
		t.Errorf("a memory limit of %.0f", limit)
	}
	if blocks := float64(diskBlocks(t, m.k.Node, m.vm.SandboxID)); math.Abs(used-blocks) > mib {
		t.Errorf("%.0f bytes of disk, the overlay takes %.0f", used, blocks)
	}
}
