// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"pgregory.net/rapid"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/vm"
)

// snapshots is a VM with its disk and snapshots, beside what they should hold.
type snapshots struct {
	*world

	rt      *rapid.T
	sandbox string
	// asks are the pod's annotations, pod its attempt.
	asks    map[string]string
	pod     uint32
	shared  string
	attempt uint32
	now     map[string]string
	taken   map[string]map[string]string
	// data is what the data disk should hold, parts what it should in snapshots that it is in.
	data      map[string]string
	parts     map[string]map[string]string
	writes    int
	container string
}

// TestSnapshotsAreWhatTheyWere is a model: whatever is done to a VM and its snapshots, in whichever order, and wherever
// it fails or is cut short, the disk and each snapshot have what was written to them, and nothing is left in the end.
func TestSnapshotsAreWhatTheyWere(t *testing.T) { checkSnapshotModel(t, nil) }

// TestSnapshotsOfAPersistentDiskAreWhatTheyWere, also in the next sandbox of the pod, and the one after that.
func TestSnapshotsOfAPersistentDiskAreWhatTheyWere(t *testing.T) { checkSnapshotModel(t, persistent) }

// TestSnapshotsHaveWhatTheFirmwareKept: what a guest writes is in its firmware too, and comes and goes with the disk.
func TestSnapshotsHaveWhatTheFirmwareKept(t *testing.T) { checkSnapshotModel(t, byUEFI(nil)) }

// TestSnapshotsOfAPersistentDiskHaveWhatTheFirmwareKept, also in the next sandbox.
func TestSnapshotsOfAPersistentDiskHaveWhatTheFirmwareKept(t *testing.T) {
	checkSnapshotModel(t, byUEFI(persistent))
}

func checkSnapshotModel(t *testing.T, asks map[string]string) {
	t.Helper()
	rapid.Check(t, func(rt *rapid.T) {
		var thrown any // rapid ends a run by a panic, which must reach it on its own goroutine
		synctest.Test(t, func(t *testing.T) {
			defer func() { thrown = recover() }()
			runSnapshotModel(t, rt, asks)
		})
		if thrown != nil {
			panic(thrown)
		}
	})
}

func runSnapshotModel(t *testing.T, rt *rapid.T, asks map[string]string) {
	t.Helper()
	w := newWorld(t)
	defer func() { w.die() }()
	m := &snapshots{world: w, rt: rt, asks: asks, shared: t.TempDir(), now: map[string]string{}, taken: map[string]map[string]string{},
		parts: map[string]map[string]string{}}
	m.sandbox = w.podWith("model", 0, asks)
	m.container = m.made(0)
	actions := map[string]func(*rapid.T){
		"":              func(*rapid.T) { m.check() },
		"write":         func(*rapid.T) { m.write() },
		"snapshot":      func(rt *rapid.T) { m.snapshot(rt) },
		"restore":       func(rt *rapid.T) { m.restore(rt) },
		"delete":        func(rt *rapid.T) { m.remove(rt) },
		"start":         func(*rapid.T) { m.start() },
		"power off":     func(*rapid.T) { m.powerOff() },
		"restart vmlet": func(*rapid.T) { m.restart() },
		"attach NIC":    func(rt *rapid.T) { m.attachNIC(rt) },
		"detach NIC":    func(rt *rapid.T) { m.detachNIC(rt) },
		"fail":          func(rt *rapid.T) { m.fail(rt) },
	}
	if asks[annotations.RootDisk] == "" {
		actions["attach disk"] = func(*rapid.T) { m.attachDisk() }
		actions["detach disk"] = func(rt *rapid.T) { m.detachDisk(rt) }
	} else {
		actions["next sandbox"] = func(*rapid.T) { m.nextSandbox() }
	}
	rt.Repeat(actions)
	m.clean()
}

// nextSandbox has the pod's next sandbox take the disk. What fails on the way is done again.
func (m *snapshots) nextSandbox() {
	for do, left := m.svc.StopSandbox, 2; left > 0; {
		err := do(context.Background(), m.sandbox)
		if err != nil && !injected(err) && !errdefs.IsUnavailable(err) {
			m.rt.Fatal(err)
		}
		if err == nil {
			do, left = m.svc.RemoveSandbox, left-1
		}
	}
	m.pod++
	m.sandbox, m.attempt = m.podWith("model", m.pod, m.asks), 0
	m.container = m.made(0)
	for _, snap := range m.tree().Snapshots {
		if snap.Memory != nil || snap.Consistency == vm.ConsistencyMemory {
			m.rt.Fatalf("snapshot %s still has memory: %+v", snap.Name, snap)
		}
	}
}

// made makes a container whose guest has a share.
func (m *snapshots) made(attempt uint32) string {
	spec := containerSpec(attempt)
	spec.Mounts = []vm.Mount{{ContainerPath: "/data", HostPath: m.shared}}
	id, err := m.svc.CreateContainer(context.Background(), m.sandbox, spec)
	for err != nil && injected(err) {
		id, err = m.svc.CreateContainer(context.Background(), m.sandbox, spec)
	}
	if err != nil {
		m.rt.Fatal(err)
	}
	return id
}

func (m *snapshots) attachNIC(rt *rapid.T) {
	spec := vm.NICSpec{Name: fmt.Sprintf("eth%d", rapid.IntRange(1, 3).Draw(rt, "NIC"))}
	if _, err := m.svc.AttachNIC(context.Background(), m.sandbox, spec, nil); err != nil && !injected(err) && !errdefs.IsUnavailable(err) {
		rt.Fatal(err)
	}
}

func (m *snapshots) detachNIC(rt *rapid.T) {
	name := fmt.Sprintf("eth%d", rapid.IntRange(1, 3).Draw(rt, "NIC"))
	err := m.svc.DetachNIC(context.Background(), m.sandbox, name, 0)
	if err != nil && !injected(err) && !errdefs.IsNotFound(err) && !errdefs.IsUnavailable(err) {
		rt.Fatal(err)
	}
}

// devices holds the machine's NICs and its share against the record: what failed is done again.
func (m *snapshots) devices() {
	wrong := ""
	for range 60 {
		if wrong = m.wrongDevices(); wrong == "" {
			return
		}
		time.Sleep(time.Minute) // of the bubble
		synctest.Wait()
	}
	m.rt.Fatal(wrong)
}

func (m *snapshots) wrongDevices() string {
	want := map[string]string{}
	for _, nic := range m.sandboxOf(m.sandbox).NICs() {
		want[nic.Tap] = nic.MAC
	}
	has := map[string]string{}
	for tap, nic := range m.hypervisor.NICs(m.sandbox) {
		has[tap] = nic.MAC
	}
	if !maps.Equal(want, has) {
		return fmt.Sprintf("the machine has NICs %v, and on record are %v", has, want)
	}
	_, _, mounted := m.guest.Prepared(m.sandbox)
	if !m.hypervisor.HasShare(m.sandbox) || len(mounted) == 0 {
		return fmt.Sprintf("the guest's share: in the machine %v, mounted %v", m.hypervisor.HasShare(m.sandbox), mounted)
	}
	return ""
}

// tree is what is on record of the VM's disk, wherever that is.
func (m *snapshots) tree() vm.DiskTree {
	synctest.Wait()
	if all := m.store.Disks().List(); len(all) == 1 {
		return all[0].Tree()
	}
	sb, err := m.svc.Sandbox(m.sandbox)
	if err != nil {
		m.rt.Fatal(err)
	}
	return sb.Status.DiskTree
}

// disk is the file that the guest writes to.
func (m *snapshots) disk() string {
	st := m.tree()
	if len(st.Disks) != 1 {
		m.rt.Fatalf("%d disks: %+v", len(st.Disks), st.Disks)
	}
	return st.Disks[0].Path
}

// nvram is the file that QEMU has its firmware's variables in, "" with BIOS.
func (m *snapshots) nvram() string {
	machine, ok := m.hypervisor.Machine(m.sandbox)
	if !ok {
		m.rt.Fatal("it has no machine")
	}
	return machine.NVRAM
}

// firmware holds what is kept in a file against the model.
func (m *snapshots) firmware(what, path string, want map[string]string) {
	if byUEFI := m.asks[annotations.Firmware] != ""; byUEFI != (path != "") {
		m.rt.Fatalf("%s: the NVRAM is %q", what, path)
	} else if byUEFI {
		m.holds("the firmware of "+what, path, want)
	}
}

func (m *snapshots) runs() bool {
	d, err := m.hypervisor.Domain(context.Background(), m.sandbox)
	if err != nil {
		m.rt.Fatal(err)
	}
	return d.State.Active()
}

// chains are what QEMU has open. It may be asked twice: the first time may be the one that fails.
func (m *snapshots) chains() [][]string {
	for range 20 {
		if chains, err := m.hypervisor.Chains(context.Background(), m.sandbox); err == nil {
			return chains
		}
	}
	m.rt.Fatal("no chains")
	return nil
}

func (m *snapshots) write() {
	if !m.runs() {
		m.rt.Skip("no guest writes")
	}
	m.writes++
	key, value := fmt.Sprintf("sector %d", m.writes%5), fmt.Sprint(m.writes)
	m.disks.Put(m.chains()[0][0], key, value)
	if nvram := m.nvram(); nvram != "" {
		m.disks.Put(nvram, key, value)
	}
	m.now[key] = value
	if d, ok := m.dataDisk(); ok && d.State == vm.DataDiskAttached {
		m.disks.Put(m.dataChain(d.Target)[0], key, "data "+value)
		m.data[key] = "data " + value
	}
}

// dataDisk is the data disk on record, if there is one.
func (m *snapshots) dataDisk() (vm.DataDisk, bool) {
	if all := m.sandboxOf(m.sandbox).Status.DataDisks; len(all) == 1 {
		return all[0], true
	}
	return vm.DataDisk{}, false
}

// dataChain is what QEMU has open for the data disk, whatever its record says.
func (m *snapshots) dataChain(target string) []string {
	live, err := m.hypervisor.LiveDisks(context.Background(), m.sandbox)
	if err != nil {
		m.rt.Fatal(err)
	}
	i := slices.IndexFunc(live, func(d vm.LiveDisk) bool { return d.Target == target })
	if i < 0 {
		m.rt.Fatalf("the machine has no %s: %+v", target, live)
	}
	chains := m.chains()
	return chains[slices.IndexFunc(chains, func(c []string) bool { return c[0] == live[i].Path })]
}

func (m *snapshots) attachDisk() {
	_, had := m.dataDisk()
	_, err := m.svc.AttachDisk(context.Background(), m.sandbox, "data", vm.DataDiskSpec{Size: vm.MiB})
	if err != nil && !injected(err) && !errdefs.IsUnavailable(err) && !strings.Contains(err.Error(), "it is being detached") {
		m.rt.Fatal(err)
	}
	if !had {
		m.data = map[string]string{}
	}
}

func (m *snapshots) detachDisk(rt *rapid.T) {
	remove := rapid.Bool().Draw(rt, "delete")
	err := m.svc.DetachDisk(context.Background(), m.sandbox, "data", vm.DetachRequest{Delete: remove})
	held := slices.ContainsFunc(m.tree().Snapshots, func(snap vm.Snapshot) bool { return snap.State == vm.SnapshotReady && len(snap.DataDisks) > 0 })
	switch {
	case err == nil && remove && held:
		rt.Fatal("a disk that snapshots have was deleted")
	case err == nil || injected(err) || errdefs.IsNotFound(err) || errdefs.IsUnavailable(err):
	case errdefs.IsFailedPrecondition(err) && remove && held:
	default:
		rt.Fatal(err)
	}
}

func snapshotName(rt *rapid.T) string {
	return fmt.Sprintf("s%d", rapid.IntRange(0, 5).Draw(rt, "name"))
}

func (m *snapshots) snapshot(rt *rapid.T) {
	name, memory := snapshotName(rt), rapid.Bool().Draw(rt, "memory")
	_, err := m.svc.CreateSnapshot(context.Background(), m.sandbox, vm.SnapshotRequest{Name: name, Memory: memory})
	switch {
	case m.taken[name] != nil:
		if !errdefs.IsAlreadyExists(err) && !injected(err) { // what was cut short before is undone first
			rt.Fatalf("a second one named %s: %v", name, err)
		}
	case err == nil || m.is(name): // it may have failed to tell of it
		m.taken[name] = maps.Clone(m.now)
		if d, ok := m.dataDisk(); ok && d.State == vm.DataDiskAttached {
			m.parts[name] = maps.Clone(m.data)
		}
	}
}

// is tells whether there is a snapshot of this name that can be restored.
func (m *snapshots) is(name string) bool {
	return slices.ContainsFunc(m.tree().Snapshots, func(snap vm.Snapshot) bool { return snap.Name == name && snap.State == vm.SnapshotReady })
}

func (m *snapshots) restore(rt *rapid.T) {
	name := snapshotName(rt)
	ran := m.runs()
	err := m.svc.RestoreSnapshot(context.Background(), m.sandbox, vm.RestoreRequest{Name: name, DiskOnly: rapid.Bool().Draw(rt, "disk only")})
	if m.taken[name] == nil && !errdefs.IsNotFound(err) && !errdefs.IsFailedPrecondition(err) && (err == nil || !injected(err)) { // as in snapshot
		rt.Fatalf("restore what is not there: %v", err)
	}
	if errdefs.IsUnavailable(err) && strings.Contains(err.Error(), "goes on") {
		time.Sleep(time.Hour) // of the bubble: until it is restored, or given up
		st := m.tree()
		if i := slices.IndexFunc(st.Snapshots, func(snap vm.Snapshot) bool { return snap.Name == name }); m.runs() && st.Snapshots[i].ID == st.Current {
			err = nil
		}
	}
	if err == nil || strings.Contains(err.Error(), "it was restored, but") { // what its guest lacks comes later
		m.now = maps.Clone(m.taken[name])
		if m.parts[name] != nil {
			m.data = maps.Clone(m.parts[name])
		}
		if ran != m.runs() {
			rt.Fatalf("it ran before: %v, and after: %v", ran, m.runs())
		}
	}
}

func (m *snapshots) remove(rt *rapid.T) {
	name := snapshotName(rt)
	err := m.svc.DeleteSnapshot(context.Background(), m.sandbox, name)
	if m.taken[name] == nil && err == nil {
		return // it was being deleted since an earlier call failed
	}
	if m.taken[name] == nil && !errdefs.IsNotFound(err) && !errdefs.IsUnavailable(err) && !errdefs.IsInternal(err) {
		rt.Fatalf("delete what is not there: %v", err)
	}
	delete(m.taken, name)
	delete(m.parts, name)
}

func (m *snapshots) start() {
	if m.runs() {
		m.rt.Skip("it runs")
	}
	c, err := m.svc.Container(m.container)
	if err != nil {
		m.rt.Fatal(err)
	}
	if c.Status.State == vm.ContainerExited {
		m.attempt++
		m.container = m.made(m.attempt)
	}
	if err := m.svc.StartContainer(context.Background(), m.container); err != nil && !injected(err) {
		m.rt.Fatal(err)
	}
}

func (m *snapshots) powerOff() {
	if !m.runs() {
		m.rt.Skip("it is off")
	}
	m.hypervisor.PowerOff(m.sandbox)
	synctest.Wait()
}

// fail has the next call of a kind fail: what the tests call next may, and what goes on behind them is done again.
func (m *snapshots) fail(rt *rapid.T) {
	call := rapid.SampledFrom([]string{"Snapshot", "PullLayer", "CommitLayer", "PullFile", "SetBase", "StartFromMemory", "FileUsage", "Chains", "Saving", "DefineDisks",
		"AttachDisk", "UnplugDisk", "ForgetDisk", "CreateRoot", "CopyFile", "SameFiles",
		"UnplugShare", "ReplugShare", "UnplugSurplus", "PlugNIC", "UnmountShares", "MountShares"}).Draw(rt, "call")
	failure := fmt.Errorf("as the test wants it: %w", rapid.SampledFrom([]error{errdefs.ErrUnavailable, errdefs.ErrInternal}).Draw(rt, "class"))
	switch call {
	case "FileUsage", "PullFile", "SetBase", "CreateRoot", "CopyFile", "SameFiles":
		m.disks.FailNext(call, failure)
	case "UnmountShares", "MountShares":
		m.guest.FailNext(call, failure)
	default:
		m.hypervisor.FailNext(call, failure)
	}
}

// check holds everything against the model.
func (m *snapshots) check() {
	st := m.tree()
	if slices.ContainsFunc(st.Snapshots, func(snap vm.Snapshot) bool { return snap.State == vm.SnapshotCreating }) {
		time.Sleep(time.Hour) // of the bubble: what failed is undone by then
		st = m.tree()
	}
	m.holds("the disk", m.disk(), m.now)
	m.firmware("the disk", st.Disks[0].NVRAM, m.now)
	if m.runs() {
		if nvram := m.nvram(); nvram != st.Disks[0].NVRAM {
			m.rt.Fatalf("QEMU has %s, and on record is %s", nvram, st.Disks[0].NVRAM)
		}
		if writes := m.chains()[0][0]; writes != m.disk() {
			m.rt.Fatalf("QEMU writes to %s, and on record is %s", writes, m.disk())
		}
		m.devices()
		st = m.tree() // layers may have been merged meanwhile
	}
	m.checkData()
	for _, snap := range st.Snapshots {
		if snap.State != vm.SnapshotReady {
			continue
		}
		want, ok := m.taken[snap.Name]
		if !ok {
			m.rt.Fatalf("snapshot %s is there", snap.Name)
		}
		i := slices.IndexFunc(st.Layers, func(l vm.Layer) bool { return l.ID == snap.Disk.Layer })
		if i < 0 {
			m.rt.Fatalf("the layer of snapshot %s is gone", snap.Name)
		}
		m.holds("snapshot "+snap.Name, st.Layers[i].Path, want)
		m.firmware("snapshot "+snap.Name, st.Layers[i].NVRAM, want)
		if len(snap.DataDisks) > 0 != (m.parts[snap.Name] != nil) {
			m.rt.Fatalf("snapshot %s has %+v", snap.Name, snap.DataDisks)
		}
		for _, part := range snap.DataDisks {
			i := slices.IndexFunc(st.Layers, func(l vm.Layer) bool { return l.ID == part.Layer })
			if i < 0 {
				m.rt.Fatalf("the data layer of snapshot %s is gone", snap.Name)
			}
			m.holds("the data of snapshot "+snap.Name, st.Layers[i].Path, m.parts[snap.Name])
		}
	}
	for name := range m.taken {
		if !m.is(name) {
			m.rt.Fatalf("snapshot %s is gone", name)
		}
	}
}

// checkData holds the data disk against the model.
func (m *snapshots) checkData() {
	d, ok := m.dataDisk()
	if !ok {
		return
	}
	m.holds("the data disk", d.Path, m.data)
	if d.State != vm.DataDiskAttached || !m.runs() {
		return
	}
	if chain := m.dataChain(d.Target); chain[0] != d.Path {
		m.rt.Fatalf("QEMU writes data to %s, and on record is %s", chain[0], d.Path)
	}
}

func (m *snapshots) holds(what, path string, want map[string]string) {
	for i := range 5 {
		key := fmt.Sprintf("sector %d", i)
		if got := m.disks.Get(path, key); got != want[key] {
			m.rt.Fatalf("%s (%s): %s has %q, want %q", what, path, key, got, want[key])
		}
	}
}

// clean deletes all snapshots: nothing is left but the disk.
func (m *snapshots) clean() {
	for name := range m.taken {
		if err := m.svc.DeleteSnapshot(context.Background(), m.sandbox, name); err != nil && !errdefs.IsUnavailable(err) && !errdefs.IsInternal(err) {
			m.rt.Fatal(err)
		}
	}
	m.taken = nil
	m.restart()
	for range 100 {
		if st := m.tree(); len(st.Layers) == 0 && len(st.Snapshots) == 0 {
			break
		}
		time.Sleep(time.Minute) // of the bubble
	}
	st := m.tree()
	if len(st.Layers)+len(st.Snapshots) > 0 || st.Current != "" {
		m.rt.Fatalf("left: layers %+v, snapshots %+v, current %q", st.Layers, st.Snapshots, st.Current)
	}
	m.holds("the disk", m.disk(), m.now)
	m.checkData()
	data, _ := m.dataDisk()
	for _, path := range m.disks.Files() {
		if strings.Contains(path, "/data-") && path != data.Path {
			m.rt.Fatalf("%s is left", path)
		}
		if path == st.Disks[0].NVRAM {
			continue
		}
		if (strings.Contains(path, "/root") || strings.Contains(path, "/memory-")) && path != m.disk() {
			m.rt.Fatalf("%s is left", path)
		}
	}
}

// injected tells whether an error is one that the model has had happen.
func injected(err error) bool { return strings.Contains(err.Error(), "as the test wants it") }
