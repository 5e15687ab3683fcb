// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
	"github.com/vmlet/vmlet/tests/harness"
)

// libvirtdKillsEnv has libvirtd killed at each step of the calls whose names it matches, before it and within it, in place of one step
// of each call that lots are drawn for:
//
//	VMLET_LIBVIRTD_KILLS=NIC go test -tags integration -run TestLibvirtdKilledInTheMiddle ./tests/integration
const libvirtdKillsEnv = "VMLET_LIBVIRTD_KILLS"

// doomed is a VM whose libvirtd is killed in the middle of calls.
type doomed struct {
	t           *testing.T
	node        *harness.Node
	checkpoints checkpointing
	spec        harness.Pod
	pod         *harness.Running
	// hold names the step that vmlet is held up at, record those that it has passed.
	hold, record string
	lots         *rand.Rand
	all          *regexp.Regexp
	// boot is the one that the guest is in.
	boot string
	// total is what Linux has of the memory that the guest has booted with. It has so many CPUs and MiB by now.
	total  int64
	cpus   int
	memory int64
}

// doomedCall is a call that libvirtd is killed in the middle of.
type doomedCall struct {
	name string
	// before makes it possible.
	before func()
	call   func() error
	// finished is how a second call answers where vmlet has finished the first.
	finished codes.Code
	// reboots says that the guest is in another boot afterwards.
	reboots bool
	// whole says that libvirtd is killed between steps alone.
	whole bool
	// after holds the VM to what it must be, and takes away what the call has made.
	after func()
}

// The views that other tests have of the same VM.
func (d *doomed) disk() snapshotted   { return snapshotted{d.pod, d.t, d.node} }
func (d *doomed) nics() nicPod        { return nicPod{d.pod, d.t, d.node} }
func (d *doomed) disks() *diskWorld   { return &diskWorld{t: d.t, node: d.node, pod: d.pod} }
func (d *doomed) files() (n []string) { return d.node.SandboxFiles(d.pod.SandboxID) }
func (d *doomed) sizes() *sizeWorld {
	return &sizeWorld{t: d.t, node: d.node, pod: d.pod, boot: d.total}
}

// TestLibvirtdKilledInTheMiddle: libvirtd is killed with SIGKILL while a call is at one of its steps, and comes back: it is gone
// when the step begins, or goes in the middle of it. The VM runs then with its data, in the boot that it was in unless it was to be
// in another; the call can be repeated, and nothing is left.
func TestLibvirtdKilledInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	hold, record := filepath.Join(dir, "hold"), filepath.Join(dir, "record")
	checkpoints := newCheckpointing(t, harness.WithEnv("VMLET_FAILPOINT_HOLD="+hold, "VMLET_FAILPOINT_RECORD="+record))
	secondNetwork(t, checkpoints.Node)
	d := &doomed{
		t: t, node: checkpoints.Node, checkpoints: checkpoints, spec: harness.Pod{Name: "disks", Annotations: sizesHeadroom}, hold: hold, record: record,
		lots: rand.New(rand.NewPCG(harness.Seed(t), 0)), cpus: 1, memory: 160,
	}
	d.pod = d.node.Run(d.spec)
	if pattern := os.Getenv(libvirtdKillsEnv); pattern != "" {
		d.all = regexp.MustCompile(pattern)
	}
	d.pod.WaitReady()
	d.boot, d.total = d.pod.BootID(), d.sizes().total()
	for _, c := range d.calls() {
		if d.all != nil && !d.all.MatchString(c.name) {
			continue
		}
		began := time.Now()
		d.killedIn(c)
		t.Logf("%s: %s", c.name, time.Since(began).Round(time.Millisecond))
		if t.Failed() {
			return // what it has left would be taken for the next one's
		}
	}
}

// calls are all that libvirtd is killed in.
func (d *doomed) calls() []doomedCall {
	reboots := []doomedCall{
		d.reboot("reboot by reset", vmletv1.RebootMode_REBOOT_MODE_RESET),
		d.reboot("reboot by ACPI", vmletv1.RebootMode_REBOOT_MODE_ACPI),
	}
	calls := []doomedCall{
		{
			name: "take a snapshot", finished: codes.AlreadyExists,
			before: func() { d.disk().write("now") },
			call:   func() error { _, err := d.disk().take("new", true); return err },
			after: func() {
				d.disk().holds("now")
				if err := d.disk().restore("new"); err != nil { // it is there, and whole
					d.t.Error(err)
				}
				d.disk().mustRemove("new")
				d.disk().only()
			},
		},
		{
			name:   "restore a snapshot with memory",
			before: func() { d.disk().write("kept"); d.disk().mustTake("kept", true); d.disk().write("gone") },
			call:   func() error { return d.disk().restore("kept") },
			after:  func() { d.disk().holds("kept"); d.disk().mustRemove("kept"); d.disk().only() },
		},
		{
			name: "delete a snapshot", finished: codes.NotFound,
			before: func() { d.disk().write("now"); d.disk().mustTake("new", true); d.disk().write("later") },
			call:   func() error { return d.disk().remove("new") },
			after:  func() { d.disk().holds("later"); d.disk().only() },
		},
		{
			name: "take a snapshot of a data disk", finished: codes.AlreadyExists,
			before: func() { d.withData("now") },
			call:   func() error { _, err := d.disk().take("new", false); return err },
			after: func() {
				d.disk().holdBoth("now")
				d.disk().mustRemove("new")
				d.withoutData()
			},
		},
		{
			name:   "restore a snapshot of a data disk",
			before: func() { d.withData("kept"); d.disk().mustTake("kept", true); d.disk().writeBoth("gone") },
			call:   func() error { return d.disk().restore("kept") },
			after:  func() { d.disk().holdBoth("kept"); d.disk().mustRemove("kept"); d.withoutData() },
		},
		{
			name: "delete a snapshot of a data disk", finished: codes.NotFound,
			before: func() { d.withData("now"); d.disk().mustTake("new", false); d.disk().writeBoth("later") },
			call:   func() error { return d.disk().remove("new") },
			after:  func() { d.disk().holdBoth("later"); d.withoutData() },
		},
		{
			name: "attach a NIC",
			call: d.attachNIC,
			after: func() {
				if nics := d.nics().list(); len(nics) != 2 || !nics[1].GetPlugged() {
					d.t.Errorf("NICs: %v", nics)
				} else {
					d.nics().works(nics[1])
				}
				d.nics().detach("eth1")
				d.nics().onlyItsOwn()
			},
		},
		{
			// Where libvirtd dies after it has removed the back end of a NIC, and before it has written that down, the next one fails
			// to remove it, and ends the VM: libvirt 9.0, qemuDomainRemoveNetDevice within qemuProcessReconnect.
			name: "detach a NIC", finished: codes.NotFound, whole: true,
			before: func() { d.nics().attach("eth1", "second") },
			call:   func() error { return d.nics().tryDetach("eth1", time.Minute) },
			after:  func() { d.nics().onlyItsOwn() },
		},
		{
			name:  "attach a disk",
			call:  d.attachDisk,
			after: func() { d.hasDisk(8 * mib) },
		},
		{
			name:   "resize a disk",
			before: func() { d.disks().attach(bySize("data", 8*mib)) },
			call: func() error {
				_, err := d.node.VMs.ResizeDisk(d.t.Context(), &vmletv1.ResizeDiskRequest{Vm: "test/disks", Name: "data", SizeBytes: 16 * mib})
				return err
			},
			after: func() { d.hasDisk(16 * mib) },
		},
		{
			name: "detach a disk", finished: codes.NotFound,
			before: func() { d.disks().attach(bySize("data", 8*mib)) },
			call: func() error {
				_, err := d.node.VMs.DetachDisk(d.t.Context(), &vmletv1.DetachDiskRequest{Vm: "test/disks", Name: "data", Delete: true})
				return err
			},
			after: d.hasNoDisk,
		},
	}
	calls = append(calls, d.checkpointCalls()...) // before the guest has other CPUs than its pod wants
	calls = append(calls, d.resizeCalls()...)
	reboots = append(reboots, doomedCall{
		name: "power off and on", reboots: true,
		before: func() { d.disk().write("kept") },
		call:   d.powerOffAndOn,
		after:  func() { d.disk().holds("kept") },
	})
	if d.all == nil { // each takes a boot, or some
		return append(calls, reboots[d.lots.IntN(len(reboots))])
	}
	return append(append(calls, reboots...), doomedCall{
		name: "restore the disk of a snapshot", reboots: true,
		before: func() { d.disk().write("kept"); d.disk().mustTake("kept", false); d.disk().write("gone") },
		call:   func() error { return d.disk().restore("kept") },
		after:  func() { d.disk().holds("kept"); d.disk().mustRemove("kept"); d.disk().only() },
	})
}

func (d *doomed) reboot(name string, mode vmletv1.RebootMode) doomedCall {
	return doomedCall{
		name: name, reboots: true,
		before: func() { d.disk().write("kept") },
		call:   func() error { _, err := reboot(d.t.Context(), d.node, "test/disks", mode); return err },
		after:  func() { d.disk().holds("kept") },
	}
}

func (d *doomed) powerOffAndOn() error {
	if _, err := d.node.VMs.PowerOff(d.t.Context(), &vmletv1.PowerOffRequest{Vm: d.pod.SandboxID, WaitMs: time.Minute.Milliseconds()}); err != nil {
		return err
	}
	_, err := d.node.VMs.PowerOn(d.t.Context(), &vmletv1.PowerOnRequest{Vm: d.pod.SandboxID})
	return err
}

func (d *doomed) attachNIC() error {
	_, err := d.nics().tryAttach(&vmletv1.AttachNICRequest{Name: "eth1", Network: "second"})
	return err
}

func (d *doomed) attachDisk() error {
	_, err := d.node.VMs.AttachDisk(d.t.Context(), bySize("data", 8*mib))
	return err
}

// withData attaches a data disk, and writes to it and the root disk.
func (d *doomed) withData(text string) {
	d.t.Helper()
	d.disk().mustAttachData("data", 8*mib)
	d.disk().writeBoth(text)
}

// withoutData takes it away: nothing is left of it, nor of snapshots.
func (d *doomed) withoutData() {
	d.t.Helper()
	d.disk().onlyWithData()
	if err := d.disk().detachData("data", true); err != nil {
		d.t.Error(err)
	}
	d.hasNoDisk()
	d.disk().only()
}

// hasDisk proves that the data disk is there with a size, by guest, host and record, and takes it away.
func (d *doomed) hasDisk(size int64) {
	d.t.Helper()
	if _, seen := d.disks().seen("data"); seen != size {
		d.t.Errorf("the guest sees %d bytes", seen)
	}
	d.disks().wantState("data", attached)
	path := d.disks().disk("data").GetLayers()[0].GetPath()
	if live, defined := d.disks().inDomain(path); !live || !defined {
		d.t.Errorf("libvirt has it live: %v, defined: %v", live, defined)
	}
	d.disks().detach("data", true)
	d.hasNoDisk()
}

func (d *doomed) hasNoDisk() {
	d.t.Helper()
	if there := d.disks().disk("data"); there != nil {
		d.t.Errorf("it is on record: %v", there)
	}
	if has := d.disks().serials(); slices.Contains(strings.Fields(has), "data") {
		d.t.Errorf("the guest has it: %s", has)
	}
	if i := slices.IndexFunc(d.files(), func(name string) bool { return strings.HasPrefix(name, "data-") }); i >= 0 {
		d.t.Errorf("a file is left: %v", d.files())
	}
}

// killedIn has libvirtd killed in a call: at one step of it, or at each of them in both ways.
func (d *doomed) killedIn(c doomedCall) {
	d.t.Helper()
	steps := d.steps(c)
	if d.all == nil {
		d.killedAt(c, steps, d.lots.IntN(len(steps)), d.lots.IntN(2) == 1 && !c.whole)
		return
	}
	for i := range steps {
		for _, within := range []bool{false, true} {
			if d.t.Failed() {
				return
			}
			if within && c.whole {
				continue
			}
			d.killedAt(c, steps, i, within)
		}
	}
}

// steps makes a call that nothing befalls, and lists where something is on record: what comes between two records is libvirt's part.
func (d *doomed) steps(c doomedCall) (steps []string) {
	d.t.Helper()
	if c.before != nil {
		c.before()
	}
	passed := len(lines(d.t, d.record))
	if err := c.call(); err != nil {
		d.t.Fatalf("%s: %v", c.name, err)
	}
	for _, mark := range lines(d.t, d.record)[passed:] {
		// Layers are tidied after a restore, when its caller has its answer.
		if strings.HasSuffix(mark, "/after") && (c.name == "delete a snapshot" || !strings.HasPrefix(mark, "store/layer")) {
			steps = append(steps, mark)
		}
	}
	if len(steps) == 0 {
		d.t.Fatalf("%s passes nothing", c.name)
	}
	if last := len(steps) - 1; last > 0 && c.name != "delete a snapshot" {
		steps = steps[:last] // it is over
	}
	d.t.Logf("%s passes %v", c.name, steps)
	d.settled(c)
	return steps
}

// killedAt has libvirtd killed when a call has passed a step, before libvirt has heard of the next or while it works on that.
func (d *doomed) killedAt(c doomedCall, steps []string, i int, within bool) {
	d.t.Helper()
	if c.before != nil {
		c.before()
	}
	pass := 1 + count(lines(d.t, d.record), steps[i]) + count(steps[:i], steps[i])
	what := fmt.Sprintf("%s, libvirtd killed after %s (pass %d), within the next step: %v", c.name, steps[i], pass, within)
	if err := os.WriteFile(d.hold, fmt.Appendf(nil, "%s %d", steps[i], pass), 0o600); err != nil {
		d.t.Fatal(err)
	}
	answer := make(chan error, 1)
	go func() { answer <- c.call() }()
	if early, err := d.held(answer); early {
		d.t.Fatalf("%s: it was never held up; it answers %v", what, err)
	}
	if within {
		d.goOn()
		// Anywhere in it; most of what libvirt does is short.
		lot := d.lots.IntN(15)
		time.Sleep(time.Duration(lot*lot) * time.Millisecond)
		harness.KillLibvirtd(d.t)
	} else {
		harness.KillLibvirtd(d.t)
		d.goOn()
	}
	var err error
	answered := true
	select {
	case err = <-answer:
	case <-time.After(2 * time.Second): // it waits for libvirt to come back
		answered = false
	}
	harness.StartLibvirtd(d.t)
	if !answered {
		err = <-answer
	}
	d.t.Logf("%s: %v", what, err)
	if err != nil {
		d.node.Eventually(2*time.Minute, func() error {
			if err := c.call(); err != nil && (c.finished == codes.OK || status.Code(err) != c.finished) {
				return fmt.Errorf("%s: again: %w", what, err)
			}
			return nil
		})
	}
	d.node.Eventually(time.Minute, func() error { // vmlet looks at its VMs again
		_, err := d.node.VMs.Resume(d.t.Context(), &vmletv1.ResumeRequest{Vm: d.pod.SandboxID})
		return err
	})
	d.settled(c)
	if d.t.Failed() {
		d.t.Log("it was: ", what)
	}
}

// held waits until vmlet is held up at the step; early if the call answers before that.
func (d *doomed) held(answer <-chan error) (early bool, err error) {
	for {
		if _, err := os.Stat(d.hold + ".held"); err == nil {
			return false, nil
		}
		select {
		case err := <-answer:
			return true, err
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (d *doomed) goOn() {
	d.t.Helper()
	if err := os.Remove(d.hold); err != nil && !errors.Is(err, os.ErrNotExist) {
		d.t.Fatal(err)
	}
}

// settled holds the VM to what it must be after a call.
func (d *doomed) settled(c doomedCall) {
	d.t.Helper()
	if st := d.pod.Status(); st.GetState() != runtimeapi.ContainerState_CONTAINER_RUNNING {
		d.t.Fatalf("the container is %s: %s", st.GetState(), st.GetMessage())
	}
	c.after()
	now := d.pod.BootID()
	if (now != d.boot) != c.reboots {
		d.t.Errorf("the guest is in boot %s, was in %s", now, d.boot)
	}
	d.boot = now
}
