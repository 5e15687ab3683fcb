// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
	"github.com/vmlet/vmlet/tests/harness"
)

// sizeWorld is a node with a VM of 1 CPU of 3, and of 160 MiB that can become 416.
type sizeWorld struct {
	t    *testing.T
	node *harness.Node
	pod  *harness.Running
	boot int64 // bytes that the guest has of its 160 MiB
}

var sizesHeadroom = map[string]string{
	"vmlet.io/vcpus": "1", "vmlet.io/max-vcpus": "3", "vmlet.io/memory": "160Mi", "vmlet.io/max-memory": "416Mi",
}

func newSizeWorld(t *testing.T, opts ...harness.NodeOption) *sizeWorld {
	t.Helper()
	w := &sizeWorld{t: t, node: harness.StartNode(t, opts...)}
	w.pod = w.node.Run(harness.Pod{
		Name: "sizes", Annotations: sizesHeadroom,
		Resources: &runtimeapi.LinuxContainerResources{CpuPeriod: 100000, CpuQuota: 300000, MemoryLimitInBytes: 1024 * mib},
	})
	w.pod.WaitReady()
	w.boot = w.total()
	return w
}

func (w *sizeWorld) try(req *vmletv1.ResizeRequest) (*vmletv1.ResizeResponse, error) {
	req.Vm = w.pod.SandboxID
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Minute)
	defer cancel()
	return w.node.VMs.Resize(ctx, req)
}

func (w *sizeWorld) resize(req *vmletv1.ResizeRequest) *vmletv1.ResizeResponse {
	w.t.Helper()
	did, err := w.try(req)
	if err != nil {
		w.t.Fatalf("%v: %v", req, err)
	}
	return did
}

// cpus gives the guest that many. QEMU has no room for another emulated CPU while its translation cache is full: what the guest
// runs then has it emptied.
func (w *sizeWorld) cpus(n int) {
	w.t.Helper()
	for range 8 {
		did := w.resize(&vmletv1.ResizeRequest{Cpus: uint32(n), WaitMs: 2000}).GetCpus()
		if did.GetOutcome() == vmletv1.ResizeOutcome_RESIZE_OUTCOME_APPLIED && did.GetAfter() == int64(n) {
			return
		}
		if !strings.Contains(did.GetDetail(), "translation cache") {
			w.t.Fatal(did)
		}
		w.fillCache()
	}
	w.t.Fatalf("it cannot be given %d CPUs", n)
}

// fillCache is for a guest: code that QEMU has not translated yet.
const fillCache = "for i in 1 2 3 4 5 6 7 8 9 10; do cp /bin/busybox /tmp/b && /tmp/b ls -l / >/dev/null && /tmp/b awk 'BEGIN { print 1 }' >/dev/null; done; rm /tmp/b"

// fillCache has the guest run that.
func (w *sizeWorld) fillCache() {
	w.t.Helper()
	w.pod.Exec("sh", "-c", fillCache)
}

// applied resizes to so many MiB.
func (w *sizeWorld) applied(memory int64) {
	w.t.Helper()
	did := w.resize(&vmletv1.ResizeRequest{MemoryBytes: memory * mib}).GetMemoryBytes()
	if did.GetOutcome() != vmletv1.ResizeOutcome_RESIZE_OUTCOME_APPLIED || did.GetAfter() != memory*mib {
		w.t.Fatalf("%d MiB: %v", memory, did)
	}
}

// total is what the guest has, in bytes.
func (w *sizeWorld) total() int64 {
	w.t.Helper()
	kib, err := strconv.ParseInt(w.pod.Exec("awk", "/^MemTotal:/ { print $2 }", "/proc/meminfo"), 10, 64)
	if err != nil {
		w.t.Fatal(err)
	}
	return kib << 10
}

// has checks CPUs and MiB, inside and by libvirt's machine and definition.
func (w *sizeWorld) has(cpus int, memory int64) {
	w.t.Helper()
	w.node.Eventually(time.Minute, func() error {
		if got := w.pod.Exec("nproc"); got != strconv.Itoa(cpus) {
			return fmt.Errorf("the guest sees %s CPUs, not %d", got, cpus)
		}
		// A boot with other CPUs leaves the kernel a few pages more or less.
		if got, want := w.total(), w.boot+(memory-160)*mib; got < want-mib || got > want+mib {
			return fmt.Errorf("the guest sees %d bytes, not %d", got, want)
		}
		return nil
	})
	w.node.Eventually(time.Minute, func() error { // libvirt hears of the guest's memory once a second
		return errors.Join(w.libvirtSays(cpus, memory), w.libvirtSays(cpus, memory, "--inactive"))
	})
}

// libvirtSays looks at the machine, or with --inactive at its definition.
func (w *sizeWorld) libvirtSays(cpus int, memory int64, flags ...string) error {
	w.t.Helper()
	return domainSize(w.t, w.pod.DomainName(), cpus, memory-160, flags...)
}

// domainSize compares the CPUs of a domain, and the MiB that are plugged into it, with what they should be.
func domainSize(t *testing.T, domain string, cpus int, plugged int64, flags ...string) error {
	t.Helper()
	var d struct {
		VCPU struct {
			Current int `xml:"current,attr"`
			Value   int `xml:",chardata"`
		} `xml:"vcpu"`
		Requested int64 `xml:"devices>memory>target>requested"`
		Current   int64 `xml:"devices>memory>target>current"`
	}
	if err := xml.Unmarshal([]byte(harness.Virsh(t, append([]string{"dumpxml", domain}, flags...)...)), &d); err != nil {
		return err
	}
	if d.VCPU.Current == 0 {
		d.VCPU.Current = d.VCPU.Value
	}
	if d.VCPU.Current != cpus || d.Requested != plugged<<10 || len(flags) == 0 && d.Current != plugged<<10 {
		return fmt.Errorf("%v: libvirt says %+v, want %d CPUs and %d MiB plugged", flags, d, cpus, plugged)
	}
	return nil
}

// bootID asks the agent: a guest that was short of memory may have killed what serves it otherwise.
func (w *sizeWorld) bootID() string { return w.pod.Exec("cat", "/proc/sys/kernel/random/boot_id") }

// quota is that of the VM's group, as the CRI tells it.
func (w *sizeWorld) quota(want int64) {
	w.t.Helper()
	if got := w.pod.Status().GetResources().GetLinux().GetCpuQuota(); got != want {
		w.t.Errorf("the container's quota is %d, want %d", got, want)
	}
}

// TestResize: CPUs and memory of a guest that runs, seen from inside and from the host.
func TestResize(t *testing.T) {
	w := newSizeWorld(t)
	boot := w.bootID()
	w.has(1, 160)

	t.Run("more", func(t *testing.T) {
		w.cpus(3)
		did := w.resize(&vmletv1.ResizeRequest{Cpus: 3, MemoryBytes: 416 * mib, CpusetCpus: "0"})
		for what, outcome := range map[string]vmletv1.ResizeOutcome{
			"cpus": did.GetCpus().GetOutcome(), "memory": did.GetMemoryBytes().GetOutcome(), "cpuset": did.GetCpusetCpus().GetOutcome(),
		} {
			if outcome != vmletv1.ResizeOutcome_RESIZE_OUTCOME_APPLIED {
				t.Errorf("%s: %s: %v", what, outcome, did)
			}
		}
		w.has(3, 416)
		if allowed, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.pod.QEMU())); err != nil || !strings.Contains(string(allowed), "Cpus_allowed_list:\t0\n") {
			t.Errorf("QEMU may run elsewhere than on CPU 0: %v", err)
		}
	})
	t.Run("less", func(t *testing.T) {
		did := w.resize(&vmletv1.ResizeRequest{Cpus: 1, MemoryBytes: 288 * mib})
		if got := did.GetCpus(); got.GetAfter() != 1 || did.GetGuestCpus() != 3 {
			t.Errorf("CPUs: %v", got)
		}
		w.has(3, 288)
		w.quota(100000)
		w.resize(&vmletv1.ResizeRequest{Cpus: 3})
		w.quota(300000)
	})
	t.Run("beyond", func(t *testing.T) {
		for _, req := range []*vmletv1.ResizeRequest{{Cpus: 4}, {MemoryBytes: 512 * mib}, {MemoryBytes: 128 * mib}, {CpusetCpus: "4095"}} {
			if _, err := w.try(req); err == nil || req.GetCpusetCpus() == "" && status.Code(err) != codes.FailedPrecondition {
				t.Errorf("%v: %v", req, err)
			} else {
				t.Log(status.Convert(err).Message())
			}
		}
		w.has(3, 288)
	})
	t.Run("a guest that cannot give it back", func(t *testing.T) {
		w.applied(416)
		w.pod.Exec("sh", "-c", "mkdir -p /full && mount -t tmpfs -o size=400m full /full && dd if=/dev/zero of=/full/x bs=1M count=200 2>/dev/null")
		did := w.resize(&vmletv1.ResizeRequest{MemoryBytes: 160 * mib, WaitMs: 1500}).GetMemoryBytes()
		if after := did.GetAfter(); did.GetOutcome() != vmletv1.ResizeOutcome_RESIZE_OUTCOME_PARTLY || after <= 200*mib || after > 416*mib || did.GetDetail() == "" {
			t.Fatalf("got %v", did)
		}
		w.has(3, did.GetAfter()/mib)
		w.pod.Exec("umount", "/full")
		w.applied(288)
		w.has(3, 288)
	})
	t.Run("the size stays", func(t *testing.T) {
		w.node.Kill9()
		w.node.Start()
		w.has(3, 288)
		if w.bootID() != boot {
			t.Error("the guest was booted anew")
		}
		qemu := w.pod.QEMU()
		if _, err := reboot(t.Context(), w.node, "test/sizes", vmletv1.RebootMode_REBOOT_MODE_ACPI); err != nil {
			t.Fatal(err)
		}
		if w.pod.QEMU() == qemu {
			t.Error("the same QEMU")
		}
		w.has(3, 288)
	})
	t.Run("a snapshot is of its size", func(t *testing.T) {
		w.pod.Exec("sh", "-c", "echo then >/tmp/when")
		if _, err := w.node.VMs.CreateSnapshot(t.Context(), &vmletv1.CreateSnapshotRequest{Vm: "test/sizes", Name: "s", Memory: true}); err != nil {
			t.Fatal(err)
		}
		w.applied(256)
		restore := func() error {
			_, err := w.node.VMs.RestoreSnapshot(t.Context(), &vmletv1.RestoreSnapshotRequest{Vm: "test/sizes", Name: "s"})
			return err
		}
		if err := restore(); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("restored over another size: %v", err)
		}
		w.applied(288)
		if err := restore(); err != nil {
			t.Fatal(err)
		}
		w.has(3, 288)
		w.applied(416)
		w.has(3, 416)
	})
}

// TestALimitMovesTheMemoryOfAVM: what kubelet changes is what the guest has.
func TestALimitMovesTheMemoryOfAVM(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{
		Name: "limits", Annotations: map[string]string{"vmlet.io/max-memory": "512Mi", "vmlet.io/max-vcpus": "2"},
		Resources: &runtimeapi.LinuxContainerResources{CpuPeriod: 100000, CpuQuota: 100000, MemoryLimitInBytes: 328 * mib},
	})
	pod.WaitReady()
	w := &sizeWorld{t: t, node: node, pod: pod}
	boot := w.total()
	update := func(memory, quota int64) error {
		_, err := node.UpdateContainerResources(t.Context(), &runtimeapi.UpdateContainerResourcesRequest{
			ContainerId: pod.ContainerID, Linux: &runtimeapi.LinuxContainerResources{CpuPeriod: 100000, CpuQuota: quota, MemoryLimitInBytes: memory},
		})
		return err
	}
	err := update(584*mib, 200000)
	for try := 0; err != nil && try < 4 && strings.Contains(err.Error(), "translation cache"); try++ {
		w.fillCache()
		err = update(584*mib, 200000)
	}
	if err != nil {
		t.Fatal(err)
	}
	if grown := w.total() - boot; grown < 250*mib || grown > 256*mib {
		t.Errorf("the guest has %d MiB more", grown/mib)
	}
	pod.Exec("sh", "-c", "mkdir -p /full && mount -t tmpfs -o size=400m full /full && dd if=/dev/zero of=/full/x bs=1M count=240 2>/dev/null")
	node.Eventually(time.Minute, func() error {
		if got := pod.Exec("nproc"); got != "2" {
			return fmt.Errorf("the guest sees %s CPUs", got)
		}
		return nil
	})
	pod.Exec("umount", "/full")
	if err := update(328*mib, 50000); err != nil {
		t.Fatal(err)
	}
	if now := w.total(); now != boot {
		t.Errorf("the guest has %d bytes, had %d", now, boot)
	}
	if got := pod.Status().GetResources().GetLinux(); got.GetMemoryLimitInBytes() != 328*mib || got.GetCpuQuota() != 50000 {
		t.Errorf("told %v", got)
	}
	if err := update(800*mib, 0); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("beyond the headroom: %v", err)
	}
}

// TestKilledAtEveryStepOfAResize: vmlet is killed at each failpoint that a resize passes. The VM has the one size or the
// other then, in the guest, in libvirt and on record, and the call can be repeated.
func TestKilledAtEveryStepOfAResize(t *testing.T) {
	k := newKiller(t)
	w := newSizeWorld(t, k.watched())
	k.node = w.node
	w.cpus(2)
	marks := k.passes(4, func() { w.resize(&vmletv1.ResizeRequest{MemoryBytes: 288 * mib}) })
	for i, mark := range marks {
		memory, other := int64(416), int64(288)
		if i%2 == 1 {
			memory, other = other, memory
		}
		k.dieAt(marks, i, func() error {
			_, err := w.try(&vmletv1.ResizeRequest{Cpus: 2, MemoryBytes: memory * mib})
			return err
		})
		did := w.resize(&vmletv1.ResizeRequest{Cpus: 2})
		now := did.GetMemoryBytes().GetAfter() / mib
		if now != memory && now != other {
			t.Errorf("killed at %s: the VM has %d MiB", mark, now)
		}
		w.has(2, now)
		w.applied(memory)
		w.has(2, memory)
	}
}
