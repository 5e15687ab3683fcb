// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
	"github.com/vmlet/vmlet/tests/harness"
)

const mib = int64(1) << 20

// diskWorld is a node that allows a folder, and one of its VMs.
type diskWorld struct {
	t    *testing.T
	node *harness.Node
	pod  *harness.Running
	// dir is the folder that is allowed.
	dir string
}

func newDiskWorld(t *testing.T, opts ...harness.NodeOption) *diskWorld {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} { // QEMU's user passes through
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w := &diskWorld{t: t, dir: dir, node: harness.StartNode(t, append(opts, harness.WithConfig("disks: {allowedPaths: ["+dir+"]}"))...)}
	w.pod = w.node.Run(harness.Pod{Name: "disks"})
	w.pod.WaitReady()
	return w
}

func bySize(name string, size int64) *vmletv1.AttachDiskRequest {
	return &vmletv1.AttachDiskRequest{Vm: "test/disks", Name: name, Source: &vmletv1.AttachDiskRequest_SizeBytes{SizeBytes: size}}
}

func byPath(name, path string, format vmletv1.DiskFormat) *vmletv1.AttachDiskRequest {
	return &vmletv1.AttachDiskRequest{Vm: "test/disks", Name: name, Source: &vmletv1.AttachDiskRequest_Path{Path: path}, Format: format}
}

func (w *diskWorld) attach(req *vmletv1.AttachDiskRequest) {
	w.t.Helper()
	if _, err := w.node.VMs.AttachDisk(w.t.Context(), req); err != nil {
		w.t.Fatal(err)
	}
}

func (w *diskWorld) detach(name string, remove bool) {
	w.t.Helper()
	if _, err := w.node.VMs.DetachDisk(w.t.Context(), &vmletv1.DetachDiskRequest{Vm: "test/disks", Name: name, Delete: remove}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *diskWorld) resize(name string, size int64, grow bool) *vmletv1.ResizeDiskResponse {
	w.t.Helper()
	did, err := w.node.VMs.ResizeDisk(w.t.Context(), &vmletv1.ResizeDiskRequest{Vm: "test/disks", Name: name, SizeBytes: size, GrowFileSystem: grow})
	if err != nil {
		w.t.Fatal(err)
	}
	return did
}

// refused checks that an attach is, as FailedPrecondition.
func (w *diskWorld) refused(req *vmletv1.AttachDiskRequest, says string) {
	w.t.Helper()
	_, err := w.node.VMs.AttachDisk(w.t.Context(), req)
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(status.Convert(err).Message(), says) {
		w.t.Errorf("%v: %v, want FailedPrecondition with %q", req.GetSource(), err, says)
	}
}

// file makes a raw file of a size in the allowed folder, as QEMU's user can open it.
func (w *diskWorld) file(name string, size int64) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		w.t.Fatal(err)
	}
	if err := errors.Join(os.Truncate(path, size), os.Chmod(path, 0o666)); err != nil {
		w.t.Fatal(err)
	}
	return path
}

func (w *diskWorld) host(command string, args ...string) {
	w.t.Helper()
	if out, err := exec.CommandContext(w.t.Context(), command, args...).CombinedOutput(); err != nil {
		w.t.Fatalf("%s %v: %v\n%s", command, args, err, out)
	}
}

// guestDisk is a script that prints the name of the disk with that serial number, once the guest has it.
func guestDisk(serial string) string {
	return fmt.Sprintf(`n=0; while :; do
		for d in /sys/block/*; do
			[ "$(cat $d/serial 2>/dev/null)" = %[1]s ] || [ "$(tail -c +5 $d/device/vpd_pg80 2>/dev/null)" = %[1]s ] && exec echo ${d##*/}
		done
		n=$((n + 1)); [ $n = 200 ] && exit 1
		sleep 0.05
	done`, serial)
}

// seen waits until the guest has the disk, and returns its name and size there.
func (w *diskWorld) seen(serial string) (name string, size int64) {
	w.t.Helper()
	name = w.pod.Exec("sh", "-c", guestDisk(serial))
	if _, err := fmt.Sscan(w.pod.Exec("cat", "/sys/block/"+name+"/size"), &size); err != nil {
		w.t.Fatal(err)
	}
	return name, size * 512
}

// serials are those of the disks that the guest has.
func (w *diskWorld) serials() string {
	w.t.Helper()
	return " " + strings.Join(strings.Fields(w.pod.Exec("sh", "-c", "cat /sys/block/vd*/serial; for d in /sys/block/vd*; do echo; done")), " ") + " "
}

// disk is a disk as vmlet tells it, nil if it tells none.
func (w *diskWorld) disk(name string) *vmletv1.VMDisk {
	w.t.Helper()
	resp, err := w.node.VMs.ListVMDisks(w.t.Context(), &vmletv1.ListVMDisksRequest{Vm: "test/disks"})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, d := range resp.GetDisks() {
		if d.GetName() == name {
			return d
		}
	}
	return nil
}

func (w *diskWorld) wantState(name string, want vmletv1.VMDiskState) {
	w.t.Helper()
	w.node.Eventually(time.Minute, func() error {
		if d := w.disk(name); d.GetState() != want {
			return fmt.Errorf("disk %s is %v, want %s", name, d, want)
		}
		return nil
	})
}

// inDomain tells whether libvirt has a disk of that path: in the machine that runs, and in its definition.
func (w *diskWorld) inDomain(path string) (live, defined bool) {
	w.t.Helper()
	return strings.Contains(harness.Virsh(w.t, "domblklist", w.pod.DomainName()), path),
		strings.Contains(harness.Virsh(w.t, "domblklist", "--inactive", w.pod.DomainName()), path)
}

const attached, detached = vmletv1.VMDiskState_VM_DISK_STATE_ATTACHED, vmletv1.VMDiskState_VM_DISK_STATE_DETACHED

const raw, qcow2 = vmletv1.DiskFormat_DISK_FORMAT_RAW, vmletv1.DiskFormat_DISK_FORMAT_QCOW2

// TestDataDisks is the life of disks on one VM: seen, written, read again, through all that makes another machine or
// another vmlet.
func TestDataDisks(t *testing.T) {
	w := newDiskWorld(t)
	for _, part := range []struct {
		name string
		run  func(w *diskWorld)
	}{
		{"paths that are refused", (*diskWorld).refusedPaths},
		{"data stays", (*diskWorld).dataStays},
		{"a file system grows", (*diskWorld).fileSystemGrows},
		{"the root disk grows", (*diskWorld).rootGrows},
		{"a caller's file", (*diskWorld).callersFile},
		{"on SCSI", (*diskWorld).onSCSI},
		{"a paused VM", (*diskWorld).pausedVM},
		{"a guest that does not let go", (*diskWorld).doesNotLetGo},
		{"out of ports", (*diskWorld).outOfPorts},
		{"a block device", (*diskWorld).blockDevice},
	} {
		t.Run(part.name, func(t *testing.T) {
			began := time.Now()
			part.run(&diskWorld{t: t, node: w.node, pod: w.pod, dir: w.dir})
			t.Log(time.Since(began).Round(time.Millisecond))
		})
	}
}

func (w *diskWorld) refusedPaths() {
	w.refused(byPath("x", "/etc/hostname", raw), "disks.allowedPaths")
	secret := w.file("secret", mib)
	if err := os.Chmod(secret, 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.refused(byPath("x", secret, raw), "cannot read and write it")
	if err := os.Symlink(secret, filepath.Join(w.dir, "link")); err != nil {
		w.t.Fatal(err)
	}
	w.refused(byPath("x", filepath.Join(w.dir, "link"), raw), "symbolic link")
	w.host("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", secret, filepath.Join(w.dir, "backed"), "1M")
	w.host("chmod", "666", filepath.Join(w.dir, "backed"))
	w.refused(byPath("x", filepath.Join(w.dir, "backed"), qcow2), "backing file")
	w.refused(byPath("x", filepath.Join(w.dir, "backed"), raw), "is qcow2")
	open := filepath.Join(w.dir, "open")
	if err := errors.Join(os.Mkdir(open, 0o755), os.Chmod(open, 0o777)); err != nil {
		w.t.Fatal(err)
	}
	w.host("cp", secret, filepath.Join(open, "x"))
	w.refused(byPath("x", filepath.Join(open, "x"), raw), "written by others")
	if w.disk("x") != nil {
		w.t.Error("what was refused is on record")
	}
	_, err := w.node.VMs.DetachDisk(w.t.Context(), &vmletv1.DetachDiskRequest{Vm: "test/disks", Name: "root"})
	if status.Code(err) != codes.FailedPrecondition {
		w.t.Errorf("detach of the root disk: %v", err)
	}
}

// dataStays: what was written is read again after a detach, kill -9 of vmlet, a restart of libvirtd, a reboot by ACPI and a
// restart of the container.
func (w *diskWorld) dataStays() {
	w.attach(bySize("data", 64*mib))
	w.attach(bySize("data", 64*mib))
	name, size := w.seen("data")
	if size != 64*mib {
		w.t.Errorf("the guest sees %d bytes", size)
	}
	path := w.disk("data").GetLayers()[0].GetPath()
	if live, defined := w.inDomain(path); !live || !defined {
		w.t.Errorf("libvirt has it live: %v, defined: %v", live, defined)
	}
	before := w.disk("data").GetAllocatedBytes()
	w.pod.Exec("sh", "-c", "head -c 2097152 /dev/urandom >/pattern && cat /pattern >/dev/"+name+" && sync")
	if after := w.disk("data").GetAllocatedBytes(); after < before+2*mib {
		w.t.Errorf("it took %d bytes, now %d", before, after)
	}
	same := func(when string) {
		w.t.Helper()
		name, _ := w.seen("data")
		if _, err := w.pod.TryExec(w.t.Context(), "sh", "-c", "head -c 2097152 /dev/"+name+" | cmp - /pattern"); err != nil {
			w.t.Errorf("%s: %v", when, err)
		}
	}
	w.detach("data", false)
	w.wantState("data", detached)
	if has := w.serials(); strings.Contains(has, " data ") {
		w.t.Errorf("the guest still has %s", has)
	}
	if live, defined := w.inDomain(path); live || defined {
		w.t.Errorf("libvirt has it live: %v, defined: %v", live, defined)
	}
	w.attach(bySize("data", 64*mib))
	same("after a detach")

	w.node.Kill9()
	w.node.Start()
	same("after kill -9")
	harness.RestartLibvirtd(w.t)
	w.node.Eventually(time.Minute, func() error {
		_, err := w.node.VMs.AttachDisk(w.t.Context(), bySize("more", mib))
		return err
	})
	w.seen("more")
	w.detach("more", true)
	if _, err := reboot(w.t.Context(), w.node, "test/disks", vmletv1.RebootMode_REBOOT_MODE_ACPI); err != nil {
		w.t.Fatal(err)
	}
	same("after a reboot by ACPI")
	stop(w.t, w.node, w.pod.ContainerID, 30)
	w.attach(bySize("between", 2*mib))
	w.resize("data", 96*mib, false)
	w.pod.Create()
	w.pod.Start()
	w.pod.WaitReady()
	same("after a restart of the container")
	if _, size := w.seen("data"); size != 96*mib {
		w.t.Errorf("resized between boots, the guest sees %d bytes", size)
	}
	w.seen("between")
	w.detach("between", true)
	w.detach("data", true)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) || w.disk("data") != nil {
		w.t.Errorf("deleted, the file: %v, on record: %v", err, w.disk("data"))
	}
}

func (w *diskWorld) fileSystemGrows() {
	path := w.file("ext4", 32*mib)
	w.host("mkfs.ext4", "-q", path)
	w.attach(byPath("fs", path, raw))
	name, _ := w.seen("fs")
	w.pod.Exec("sh", "-c", "mkdir -p /mnt/fs && mount -t ext4 /dev/"+name+" /mnt/fs && echo kept >/mnt/fs/kept")
	blocks := func() (n int64) {
		w.t.Helper()
		if _, err := fmt.Sscan(w.pod.Exec("sh", "-c", "df -k /mnt/fs | awk 'NR == 2 { print $2 }'"), &n); err != nil {
			w.t.Fatal(err)
		}
		return n
	}
	before := blocks()
	_, err := w.node.VMs.DetachDisk(w.t.Context(), &vmletv1.DetachDiskRequest{Vm: "test/disks", Name: "fs"})
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "mounted at /mnt/fs") {
		w.t.Errorf("detach of what is mounted: %v", err)
	}
	did := w.resize("fs", 64*mib, true)
	if did.GetFileSystem() != vmletv1.FileSystemGrowth_FILE_SYSTEM_GROWTH_GROWN || did.GetSizeBytesBefore() != 32*mib || did.GetSizeBytes() != 64*mib {
		w.t.Errorf("got %v", did)
	}
	if after := blocks(); after < before*3/2 {
		w.t.Errorf("the file system has %d KiB, had %d", after, before)
	}
	if kept := w.pod.Exec("cat", "/mnt/fs/kept"); kept != "kept" {
		w.t.Errorf("it has %q", kept)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != 64*mib {
		w.t.Errorf("on the host: %v (%v)", info, err)
	}
	_, err = w.node.VMs.ResizeDisk(w.t.Context(), &vmletv1.ResizeDiskRequest{Vm: "test/disks", Name: "fs", SizeBytes: 32 * mib})
	if status.Code(err) != codes.InvalidArgument {
		w.t.Errorf("smaller: %v", err)
	}
	w.pod.Exec("umount", "/mnt/fs")
	if did := w.resize("fs", 65*mib, true); did.GetFileSystem() != vmletv1.FileSystemGrowth_FILE_SYSTEM_GROWTH_SKIPPED {
		w.t.Errorf("unmounted: %v", did)
	}
	w.detach("fs", true)
	if _, err := os.Stat(path); err != nil {
		w.t.Errorf("the caller's file: %v", err)
	}
}

func (w *diskWorld) rootGrows() {
	_, before := w.seen("root")
	did := w.resize("root", before+32*mib, true)
	// The tiny guest's root is a partition, and it has no growpart.
	if did.GetFileSystem() != vmletv1.FileSystemGrowth_FILE_SYSTEM_GROWTH_SKIPPED || !strings.Contains(did.GetFileSystemDetail(), "growpart") {
		w.t.Errorf("got %v", did)
	}
	if _, now := w.seen("root"); now != before+32*mib {
		w.t.Errorf("the guest sees %d bytes, saw %d", now, before)
	}
	if d := w.disk("root"); d.GetSizeBytes() != before+32*mib || len(d.GetLayers()) != 2 {
		w.t.Errorf("got %v", d)
	}
}

// callersFile: it keeps its owner and its bytes, and has one writer.
func (w *diskWorld) callersFile() {
	path := w.file("theirs", 4*mib)
	owner := func() string {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			w.t.Fatal(err)
		}
		return fmt.Sprint(st.Uid, st.Gid, st.Mode)
	}
	before := owner()
	w.attach(byPath("theirs", path, raw))
	if now := owner(); now != before {
		w.t.Errorf("attached it belongs to %s, before to %s", now, before)
	}
	other := w.node.RunSandbox(harness.Pod{Name: "other"})
	req := byPath("mine", path, raw)
	req.Vm = other.SandboxID
	w.refused(req, "test/disks")
	name, _ := w.seen("theirs")
	w.pod.Exec("sh", "-c", "echo written >/dev/"+name+" && sync")
	w.detach("theirs", true)
	if b, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(b), "written\n") || owner() != before {
		w.t.Errorf("detached it begins with %q (%v), and belongs to %s, before to %s", b[:min(len(b), 8)], err, owner(), before)
	}
	req = byPath("theirs", path, raw)
	req.ReadOnly = true
	w.attach(req)
	if name, _ := w.seen("theirs"); w.pod.Exec("cat", "/sys/block/"+name+"/ro") != "1" {
		w.t.Error("the guest can write to it")
	}
	w.detach("theirs", false)
	if _, err := w.node.RemovePodSandbox(w.t.Context(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: other.SandboxID}); err != nil {
		w.t.Error(err)
	}
}

func (w *diskWorld) onSCSI() {
	req := bySize("scsi", 8*mib)
	req.Bus, req.Serial = vmletv1.DiskBus_DISK_BUS_SCSI, "s-1_2.3"
	w.attach(req)
	w.pod.Exec("modprobe", "-a", "virtio_scsi", "sd_mod")
	name, size := w.seen("s-1_2.3")
	if !strings.HasPrefix(name, "sd") || size != 8*mib {
		w.t.Errorf("the guest has %s of %d bytes", name, size)
	}
	if did := w.resize("scsi", 16*mib, true); did.GetFileSystem() != vmletv1.FileSystemGrowth_FILE_SYSTEM_GROWTH_SKIPPED {
		w.t.Errorf("got %v", did)
	}
	if _, size := w.seen("s-1_2.3"); size != 16*mib {
		w.t.Errorf("resized, the guest sees %d bytes", size)
	}
	w.detach("scsi", true)
}

func (w *diskWorld) pausedVM() {
	if _, err := w.node.VMs.Pause(w.t.Context(), &vmletv1.PauseRequest{Vm: "test/disks"}); err != nil {
		w.t.Fatal(err)
	}
	w.attach(bySize("paused", 4*mib))
	_, err := w.node.VMs.DetachDisk(w.t.Context(), &vmletv1.DetachDiskRequest{Vm: "test/disks", Name: "paused"})
	if status.Code(err) != codes.FailedPrecondition {
		w.t.Errorf("detach: %v", err)
	}
	if _, err := w.node.VMs.Resume(w.t.Context(), &vmletv1.ResumeRequest{Vm: "test/disks"}); err != nil {
		w.t.Fatal(err)
	}
	w.seen("paused")
	w.detach("paused", true)
}

// doesNotLetGo: a guest that hears nothing keeps its disk, and what it lets go of late is detached then.
func (w *diskWorld) doesNotLetGo() {
	w.attach(bySize("late", 4*mib))
	w.seen("late")
	harness.Virsh(w.t, "suspend", w.pod.DomainName())
	_, err := w.node.VMs.DetachDisk(w.t.Context(), &vmletv1.DetachDiskRequest{Vm: "test/disks", Name: "late", Delete: true, WaitMs: 500})
	if status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "did not let go") {
		w.t.Errorf("got %v", err)
	}
	w.wantState("late", attached)
	path := w.disk("late").GetLayers()[0].GetPath()
	if live, defined := w.inDomain(path); !live || !defined {
		w.t.Errorf("libvirt has it live: %v, defined: %v", live, defined)
	}
	harness.Virsh(w.t, "resume", w.pod.DomainName())
	w.wantState("late", detached)
	if _, err := os.Stat(path); err != nil {
		w.t.Errorf("its file: %v", err)
	}
	if live, defined := w.inDomain(path); live || defined {
		w.t.Errorf("libvirt has it live: %v, defined: %v", live, defined)
	}
	w.detach("late", true)
}

func (w *diskWorld) outOfPorts() {
	var names []string
	for i := range 30 {
		name := fmt.Sprintf("p%d", i)
		_, err := w.node.VMs.AttachDisk(w.t.Context(), bySize(name, mib))
		if err == nil {
			names = append(names, name)
			continue
		}
		if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "PCIe ports") {
			w.t.Errorf("got %v", err)
		}
		if w.disk(name) != nil {
			w.t.Error("what did not fit is on record")
		}
		break
	}
	if len(names) < 4 || len(names) > 24 {
		w.t.Errorf("%d disks fitted", len(names))
	}
	w.t.Logf("%d disks fitted", len(names))
	for _, name := range names {
		w.seen(name)
		w.detach(name, true)
	}
}

func (w *diskWorld) blockDevice() {
	path := w.file("loop", 4*mib)
	out, err := exec.CommandContext(w.t.Context(), "losetup", "--show", "-f", path).CombinedOutput()
	if err != nil {
		w.t.Skipf("no loop devices here: %v %s", err, out)
	}
	device := strings.TrimSpace(string(out))
	defer w.host("losetup", "-d", device)
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		w.t.Fatal(err)
	}
	node := filepath.Join(w.dir, "device")
	if err := errors.Join(unix.Mknod(node, unix.S_IFBLK|0o666, int(st.Rdev)), os.Chmod(node, 0o666)); err != nil {
		w.t.Fatal(err)
	}
	w.attach(byPath("device", node, raw))
	if _, size := w.seen("device"); size != 4*mib {
		w.t.Errorf("the guest sees %d bytes", size)
	}
	if err := os.Truncate(path, 8*mib); err != nil {
		w.t.Fatal(err)
	}
	w.host("losetup", "-c", device)
	if did := w.resize("device", 0, false); did.GetSizeBytes() != 8*mib {
		w.t.Errorf("got %v", did)
	}
	w.node.Eventually(time.Minute, func() error {
		if _, size := w.seen("device"); size != 8*mib {
			return fmt.Errorf("the guest sees %d bytes", size)
		}
		return nil
	})
	w.detach("device", false)
}

// TestKilledAtEveryStepOfADataDisk: vmlet is killed at each failpoint that an attach, a resize and a detach pass. Its next life
// finishes what was begun or takes it back, and the call can be repeated.
func TestKilledAtEveryStepOfADataDisk(t *testing.T) {
	k := newKiller(t)
	w := newDiskWorld(t, k.watched())
	k.node = w.node
	folder := filepath.Dir(w.disk("root").GetLayers()[0].GetPath())
	steps := []struct {
		name string
		do   func() error
	}{
		{"attach", func() error {
			_, err := w.node.VMs.AttachDisk(t.Context(), bySize("data", 8*mib))
			return err
		}},
		{"resize", func() error {
			_, err := w.node.VMs.ResizeDisk(t.Context(), &vmletv1.ResizeDiskRequest{Vm: "test/disks", Name: "data", SizeBytes: 16 * mib})
			return err
		}},
		{"resize of the root disk", func() error {
			_, err := w.node.VMs.ResizeDisk(t.Context(), &vmletv1.ResizeDiskRequest{Vm: "test/disks", Name: "root", SizeBytes: w.disk("root").GetSizeBytes() + mib})
			return err
		}},
		{"detach", func() error {
			_, err := w.node.VMs.DetachDisk(t.Context(), &vmletv1.DetachDiskRequest{Vm: "test/disks", Name: "data", Delete: true})
			return err
		}},
	}
	marks := make([][]string, len(steps))
	for i, s := range steps {
		marks[i] = k.passes(2, func() {
			if err := s.do(); err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
		})
	}
	boot := w.pod.BootID()
	for i, s := range steps {
		for n, mark := range marks[i] {
			if strings.HasPrefix(mark, "revert/") {
				continue // what a kill leaves there it leaves at the record beside it as well
			}
			if i > 0 { // all but the first are about the disk that it makes
				w.attach(bySize("data", 8*mib))
			}
			k.dieAt(marks[i], n, s.do)
			err := s.do()
			if s.name == "detach" && status.Code(err) == codes.NotFound {
				err = nil // it was finished
			}
			if err != nil {
				t.Fatalf("killed at %s: again: %v", mark, err)
			}
			w.check(s.name, mark, folder)
		}
	}
	if now := w.pod.BootID(); now != boot {
		t.Errorf("boot %s, was %s", now, boot)
	}
}

// check looks at what a step that was killed and done again has left, in the guest and on the host, and clears it away.
func (w *diskWorld) check(step, mark, folder string) {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*data-*"))
	if err != nil {
		w.t.Fatal(err)
	}
	switch step {
	case "attach", "resize":
		want := map[string]int64{"attach": 8 * mib, "resize": 16 * mib}[step]
		if _, size := w.seen("data"); size != want || len(files) != 1 {
			w.t.Errorf("killed at %s: the guest sees %d bytes; files: %v", mark, size, files)
		}
		w.wantState("data", attached)
	case "resize of the root disk":
		if _, size := w.seen("root"); size != w.disk("root").GetSizeBytes() {
			w.t.Errorf("killed at %s: the guest sees %d bytes, vmlet tells %v", mark, size, w.disk("root"))
		}
	case "detach":
		if len(files) > 0 || w.disk("data") != nil || slices.Contains(strings.Fields(w.serials()), "data") {
			w.t.Errorf("killed at %s: left: %v, %v, in the guest %s", mark, files, w.disk("data"), w.serials())
		}
		return
	}
	w.detach("data", true)
}
