// SPDX-License-Identifier: Apache-2.0

package store

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/vmlet/vmlet/pkg/vm"
)

var writeFixture = flag.Bool("write-fixture", false, "write the file of the current schema version into testdata; never after its release")

const fixtureOwner = "00112233445566778899aabbccddeeff"

func fixturePath(version int) string {
	return filepath.Join("testdata", fmt.Sprintf("v%d.db", version))
}

// TestFilesOfEveryVersionOpen opens a file as each schema version wrote it, with every
// field set, and expects what the migrations make of it: for the current version, all
// of it. It fails when a record type changed without a new schema version.
func TestFilesOfEveryVersionOpen(t *testing.T) {
	current := len(migrations) + 1
	if *writeFixture {
		storeFixture(t, current)
	}
	for version := 1; version <= current; version++ {
		t.Run(fmt.Sprint("v", version), func(t *testing.T) {
			n := node(t)
			if err := os.MkdirAll(n.Root, 0o711); err != nil {
				t.Fatal(err)
			}
			file, err := os.ReadFile(fixturePath(version))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(n.DB(), file, 0o600); err != nil {
				t.Fatal(err)
			}
			s := openAt(t, n)
			want, ok := fixtures[version]
			if !ok {
				t.Fatalf("say in fixtures what the records of version %d look like now", version)
			}
			if s.Owner() != fixtureOwner {
				t.Errorf("owner = %s", s.Owner())
			}
			const hint = "the record types changed: add a migration and a fixture " +
				"(or, if version %d was never released, run this test with -write-fixture):\n%s"
			if diff := cmp.Diff([]vm.Sandbox{want.sandbox()}, s.Sandboxes().List(), addresses()...); diff != "" {
				t.Errorf(hint, version, diff)
			}
			if diff := cmp.Diff([]vm.Container{want.container()}, s.Containers().List(), addresses()...); diff != "" {
				t.Errorf(hint, version, diff)
			}
			if diff := cmp.Diff(want.disks(), s.Disks().List(), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf(hint, version, diff)
			}
		})
	}
}

// fixtures are the records that the file of each version holds, as they are read now.
var fixtures = map[int]struct {
	sandbox   func() vm.Sandbox
	container func() vm.Container
	disks     func() []vm.PersistentDisk
}{
	1: {sandboxOfVersion2, containerOfVersion1, noDisks},
	2: {sandboxOfVersion2, containerOfVersion2, noDisks},
	3: {sandboxOfVersion4, containerOfVersion3, diskOfVersion4},
	4: {sandboxOfVersion4, containerOfVersion4, diskOfVersion4},
	5: {sandboxOfVersion5, containerOfVersion5, diskOfVersion5},
	6: {fullSandbox, fullContainer, oneDisk},
}

func oneDisk() []vm.PersistentDisk { return []vm.PersistentDisk{fullDisk()} }

// sandboxOfVersion5: nobody asked for a size, nothing was an operation, there were no tenants.
func sandboxOfVersion5() vm.Sandbox {
	sb := fullSandbox()
	sb.Status.Network.Request.MAC, sb.Status.Network.Request.IPs, sb.Status.Network.Request.Args = "", nil, nil
	sb.Status.Asked, sb.Status.Operations = vm.SizeAsk{}, nil
	sb.Spec.Tenant, sb.Spec.Settings, sb.Spec.BinaryAnnotations = "", nil, nil
	sb.Spec.CNIArgs, sb.Spec.IPs = nil, nil
	snap := &sb.Status.Snapshots[0]
	snap.Checkpoint, snap.MemoryGone = nil, false
	snap.Disk.NVRAM, sb.Status.Layers[0].NVRAM, sb.Status.Disks[0].NVRAM = "", "", "" // all guests booted by BIOS
	snap.Memory.DataDisks = nil
	snap.DataDisks, snap.LeftOut, sb.Status.DataDisks[0].Layer = nil, nil, ""
	snap.Memory.Machine = vm.MachineSize{VCPUs: snap.Memory.Machine.VCPUs, Memory: snap.Memory.Machine.Memory}
	return sb
}

// containerOfVersion5: no VM was powered off by its owner, made from a checkpoint, or given another machine while it ran.
func containerOfVersion5() vm.Container {
	c := fullContainer()
	c.Status.PowerOff, c.Status.Resize, c.Status.Asked = nil, nil, vm.SizeAsk{}
	c.Status.Rejoin, c.Status.Checkpoint, c.Status.Restore.DataDisks = false, nil, nil
	c.Status.Restore.Was.NVRAM, c.Status.Restore.Next.NVRAM = "", ""
	c.Status.Size = vm.MachineSize{VCPUs: c.Status.Size.VCPUs, Memory: c.Status.Size.Memory}
	return c
}

// diskOfVersion5: a persistent disk had no snapshots and no tenant.
func diskOfVersion5() []vm.PersistentDisk {
	d := fullDisk()
	d.Key.Tenant, d.Disk.NVRAM, d.Status.Layered = "", "", vm.Layered{}
	return []vm.PersistentDisk{d}
}

// diskOfVersion4: a disk grew only while no VM had it.
func diskOfVersion4() []vm.PersistentDisk {
	d := diskOfVersion5()
	d[0].Disk.Growing, d[0].Disk.Layer = false, ""
	return d
}

// sandboxOfVersion4: it had root disks, the NICs that it began with, and no snapshots.
func sandboxOfVersion4() vm.Sandbox {
	sb := sandboxOfVersion5()
	sb.Status.DataDisks, sb.Status.Disks[0].Growing = nil, false
	sb.Status.NICs, sb.Status.NICsChanged, sb.Status.Network.NICs[0].Down = nil, false, false
	sb.Status.Disks[0].Layer = ""
	sb.Status.Layered = vm.Layered{}
	return sb
}

// containerOfVersion4: no VM was put back to a snapshot.
func containerOfVersion4() vm.Container {
	c := containerOfVersion5()
	c.Status.Restore = nil
	return c
}

func noDisks() []vm.PersistentDisk { return nil }

// sandboxOfVersion2: all disks were the sandbox's, and limits stayed.
func sandboxOfVersion2() vm.Sandbox {
	sb := sandboxOfVersion4()
	sb.Status.Resources, sb.Status.Overhead = nil, nil
	sb.Status.Disks[0].ContainerID = ""
	return sb
}

// containerOfVersion3: a machine was booted once by us, and ran until its end.
func containerOfVersion3() vm.Container {
	c := containerOfVersion4()
	c.Status.BootedAt, c.Status.Reboot, c.Status.Paused = time.Time{}, nil, false
	return c
}

// containerOfVersion2: limits stayed, and nobody asked for the size again.
func containerOfVersion2() vm.Container {
	c := containerOfVersion3()
	c.Status.Size, c.Status.Resources = vm.MachineSize{}, nil
	return c
}

// containerOfVersion1: commands were kept without effect, mounts were not looked at.
func containerOfVersion1() vm.Container {
	c := containerOfVersion2()
	c.Spec.Security, c.Spec.StopSignal = nil, ""
	c.Spec.Mounts[0].RecursiveReadOnly = false
	c.Status.MainStarted, c.Status.MainExit, c.Status.Files, c.Status.Shares = false, nil, nil, nil
	return c
}

func addresses() []cmp.Option {
	return []cmp.Option{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})}
}

func storeFixture(t *testing.T, version int) {
	t.Helper()
	n := node(t)
	s := openAt(t, n)
	if err := s.Sandboxes().Create("sandbox", fullSandbox(), "create"); err != nil {
		t.Fatal(err)
	}
	if err := s.Containers().Create("container", fullContainer(), "create"); err != nil {
		t.Fatal(err)
	}
	if err := s.Disks().Create("disk", fullDisk(), "create"); err != nil {
		t.Fatal(err)
	}
	setOwner(t, s, fixtureOwner)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(n.DB())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fixturePath(version), file, 0o644); err != nil {
		t.Fatal(err)
	}
}
