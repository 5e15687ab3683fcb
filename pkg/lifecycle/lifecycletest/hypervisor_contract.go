// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

// HypervisorOwner is the owner of the machines that RunHypervisor makes. The hypervisor
// under test must take them for its own.
const HypervisorOwner = "contract-test"

// hypervisorPatience is how long an event may take on a busy machine.
const hypervisorPatience = time.Minute

// HypervisorHost is what RunHypervisor plays with: a hypervisor whose events nobody else
// reads.
type HypervisorHost struct {
	Hypervisor lifecycle.Hypervisor
	// RawDisk makes a raw file of 1 MiB that a machine can have as a disk, and returns its path.
	RawDisk func(t *testing.T) string
	// FirmwareRan, where there is firmware, waits for that of a machine whose CPUs have begun to run: a reset while it
	// copies itself to RAM leaves SeaBIOS in zeros, in QEMU 7.2, which keeps where the copy is to be over a reset.
	FirmwareRan func(t *testing.T, id string)
}

// RunHypervisor checks what lifecycle.Hypervisor promises, on machines without a disk that
// never get beyond their firmware. It leaves nothing behind.
func RunHypervisor(t *testing.T, newHost func(t *testing.T) HypervisorHost) {
	t.Helper()
	for _, tc := range []struct {
		name string
		run  func(*hypervisorTrial)
	}{
		{"a life from definition to removal", aLife},
		{"an absent domain", anAbsentDomain},
		{"an inactive domain", anInactiveDomain},
		{"an active domain", anActiveDomain},
		{"a machine that runs again", aSecondBoot},
		{"events come in libvirt's order", eventsInOrder},
		{"of two starts at once one succeeds", twoStarts},
		{"waiting for the end", awaitExit},
		{"a pause", aPause},
		{"a reset", aReset},
		{"NICs that are plugged", nicsThatArePlugged},
		{"NICs that are defined", nicsThatAreDefined},
		{"an ended context", anEndedContext},
		{"what the host can do", whatTheHostCan},
		{"a disk of an inactive domain", aDefinedDisk},
		{"a disk is plugged and unplugged", aPluggedDisk},
		{"disks without a domain", noDomainForDisks},
		{"a machine that is given another size", aSizeThatChanges},
		{"a CPU that stays", aCPUThatStays},
		{"a machine without headroom", aSizeThatIsFixed},
		{"a machine that nothing is done to", nothingToAbort},
	} {
		t.Run(tc.name, func(t *testing.T) {
			host := newHost(t)
			trial := &hypervisorTrial{T: t, h: host.Hypervisor, id: randomID(), host: host}
			defer trial.cleanUp()
			tc.run(trial)
		})
	}
}

// hypervisorTrial is one case of the suite with the sandbox it plays with.
type hypervisorTrial struct {
	*testing.T
	h    lifecycle.Hypervisor
	id   string
	host HypervisorHost
}

func (t *hypervisorTrial) machine() vm.Machine {
	return vm.Machine{
		SandboxID: t.id, UUID: vm.UUIDFromID(t.id), Name: vm.DomainName(t.id), Owner: HypervisorOwner,
		Title: "contract test", Accel: vm.AccelTCG, MachineType: "q35",
		CPU: vm.MachineCPU{Count: 1}, Memory: 64 * vm.MiB,
		ConsoleSpool: filepath.Join(t.TempDir(), "console.spool"),
	}
}

func (t *hypervisorTrial) cleanUp() {
	t.must(t.h.Destroy(t.Context(), t.id))
	t.must(t.h.Undefine(t.Context(), t.id))
}

func (t *hypervisorTrial) must(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (t *hypervisorTrial) refused(operation string, err, class error) {
	t.Helper()
	if !errors.Is(err, class) {
		t.Errorf("%s: %v, want %v", operation, err, class)
	}
}

func (t *hypervisorTrial) state(want vm.DomainState) {
	t.Helper()
	d, err := t.h.Domain(t.Context(), t.id)
	if err != nil || d.State != want || d.SandboxID != t.id {
		t.Fatalf("Domain: %+v, %v; want it %s", d, err, want)
	}
	all, err := t.h.Domains(t.Context())
	t.must(err)
	listed := slices.IndexFunc(all, func(d vm.Domain) bool { return d.SandboxID == t.id })
	switch {
	case want == vm.DomainAbsent && listed >= 0:
		t.Fatalf("Domains lists an absent domain: %+v", all[listed])
	case want != vm.DomainAbsent && (listed < 0 || all[listed] != d):
		t.Fatalf("Domains does not list %+v: %+v", d, all)
	}
	if want != vm.DomainAbsent && (d.Owner != HypervisorOwner || d.Name != vm.DomainName(t.id)) {
		t.Fatalf("Domain: %+v, want its owner and its name", d)
	}
}

func (t *hypervisorTrial) begin() {
	t.Helper()
	t.must(t.h.Define(t.Context(), t.machine()))
	t.must(t.h.Start(t.Context(), t.id))
}

// run has its CPUs run, and waits until its firmware can be reset.
func (t *hypervisorTrial) run() {
	t.Helper()
	t.must(t.h.Resume(t.Context(), t.id))
	if t.host.FirmwareRan != nil {
		t.host.FirmwareRan(t.T, t.id)
	}
}

// until returns the events of the sandbox up to one of this kind.
func (t *hypervisorTrial) until(kind vm.EventKind) []vm.Event {
	t.Helper()
	var seen []vm.Event
	patience := time.After(hypervisorPatience)
	for {
		select {
		case ev := <-t.h.Events():
			if ev.SandboxID != t.id {
				continue
			}
			seen = append(seen, ev)
			if ev.Kind == kind {
				return seen
			}
		case <-patience:
			t.Fatalf("no event %s comes after %+v", kind, seen)
		}
	}
}

func randomID() string {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // never fails, says crypto/rand
	return hex.EncodeToString(raw)
}

func aLife(t *hypervisorTrial) {
	t.must(t.h.Ready(t.Context()))
	t.state(vm.DomainAbsent)
	for range 2 {
		t.must(t.h.Define(t.Context(), t.machine()))
		t.state(vm.DomainShutoff)
	}
	t.must(t.h.Start(t.Context(), t.id))
	t.state(vm.DomainPaused)
	for range 2 {
		t.must(t.h.Resume(t.Context(), t.id))
		t.state(vm.DomainRunning)
	}
	before := time.Now().Truncate(time.Millisecond)
	for range 2 {
		t.must(t.h.Destroy(t.Context(), t.id))
		t.state(vm.DomainShutoff)
	}
	last, err := t.h.LastShutdown(t.Context(), t.id)
	if err != nil || last.Reason != "destroyed" || last.At.Before(before) || last.At.After(time.Now()) {
		t.Errorf("LastShutdown: %+v, %v; want that it was destroyed after %s", last, err, before)
	}
	for range 2 {
		t.must(t.h.Undefine(t.Context(), t.id))
		t.state(vm.DomainAbsent)
	}
	_, err = t.h.LastShutdown(t.Context(), t.id)
	t.refused("LastShutdown of a domain that was removed", err, errdefs.ErrNotFound)
}

func anAbsentDomain(t *hypervisorTrial) {
	t.must(t.h.Destroy(t.Context(), t.id))
	t.must(t.h.Undefine(t.Context(), t.id))
	t.must(t.h.AwaitExit(t.Context(), t.id))
	t.refused("Start", t.h.Start(t.Context(), t.id), errdefs.ErrNotFound)
	t.refused("Resume", t.h.Resume(t.Context(), t.id), errdefs.ErrNotFound)
	t.refused("PowerButton", t.h.PowerButton(t.Context(), t.id), errdefs.ErrNotFound)
	t.refused("Pause", t.h.Pause(t.Context(), t.id), errdefs.ErrNotFound)
	t.refused("Reset", t.h.Reset(t.Context(), t.id), errdefs.ErrNotFound)
	_, err := t.h.PID(t.Context(), t.id)
	t.refused("PID", err, errdefs.ErrNotFound)
	_, err = t.h.ConsoleDevice(t.Context(), t.id)
	t.refused("ConsoleDevice", err, errdefs.ErrNotFound)
	_, err = t.h.LastShutdown(t.Context(), t.id)
	t.refused("LastShutdown", err, errdefs.ErrNotFound)
}

func anInactiveDomain(t *hypervisorTrial) {
	t.must(t.h.Define(t.Context(), t.machine()))
	t.refused("Resume", t.h.Resume(t.Context(), t.id), errdefs.ErrFailedPrecondition)
	t.refused("PowerButton", t.h.PowerButton(t.Context(), t.id), errdefs.ErrFailedPrecondition)
	t.refused("Pause", t.h.Pause(t.Context(), t.id), errdefs.ErrFailedPrecondition)
	t.refused("Reset", t.h.Reset(t.Context(), t.id), errdefs.ErrFailedPrecondition)
	_, err := t.h.PID(t.Context(), t.id)
	t.refused("PID", err, errdefs.ErrFailedPrecondition)
	_, err = t.h.HelperPIDs(t.Context(), t.id)
	t.refused("HelperPIDs", err, errdefs.ErrFailedPrecondition)
	t.refused("ReplugShare", t.h.ReplugShare(t.Context(), t.id), errdefs.ErrFailedPrecondition)
	t.refused("UnplugShare", t.h.UnplugShare(t.Context(), t.id), errdefs.ErrFailedPrecondition)
	_, err = t.h.StartFromMemory(t.Context(), t.id, "/nonexistent/memory", nil)
	if err == nil {
		t.Error("StartFromMemory of a file that is not there succeeded")
	}
	_, err = t.h.ConsoleDevice(t.Context(), t.id)
	t.refused("ConsoleDevice", err, errdefs.ErrFailedPrecondition)
	_, err = t.h.LastShutdown(t.Context(), t.id)
	t.refused("LastShutdown of a domain that never ran", err, errdefs.ErrNotFound)
	stats, err := t.h.Stats(t.Context())
	t.must(err)
	if slices.ContainsFunc(stats, func(s vm.DomainStats) bool { return s.SandboxID == t.id }) {
		t.Errorf("Stats has an inactive domain: %+v", stats)
	}
}

func anActiveDomain(t *hypervisorTrial) {
	t.begin()
	t.refused("Start", t.h.Start(t.Context(), t.id), errdefs.ErrFailedPrecondition)
	t.refused("Define", t.h.Define(t.Context(), t.machine()), errdefs.ErrFailedPrecondition)
	t.refused("Undefine", t.h.Undefine(t.Context(), t.id), errdefs.ErrFailedPrecondition)
	t.state(vm.DomainPaused)
	pid, err := t.h.PID(t.Context(), t.id)
	if err != nil || pid <= 1 {
		t.Errorf("PID: %d, %v", pid, err)
	}
	helpers, err := t.h.HelperPIDs(t.Context(), t.id)
	if err != nil || len(helpers) != 0 {
		t.Errorf("HelperPIDs of a machine without a share: %v, %v", helpers, err)
	}
	t.refused("ReplugShare without a share", t.h.ReplugShare(t.Context(), t.id), errdefs.ErrFailedPrecondition)
	t.refused("UnplugShare without a share", t.h.UnplugShare(t.Context(), t.id), errdefs.ErrFailedPrecondition)
	console, err := t.h.ConsoleDevice(t.Context(), t.id)
	if err != nil || !filepath.IsAbs(console) {
		t.Errorf("ConsoleDevice: %q, %v", console, err)
	}
	stats, err := t.h.Stats(t.Context())
	t.must(err)
	if !slices.ContainsFunc(stats, func(s vm.DomainStats) bool { return s.SandboxID == t.id }) {
		t.Errorf("Stats lacks an active domain: %+v", stats)
	}
	_, err = t.h.LastShutdown(t.Context(), t.id)
	t.refused("LastShutdown of a first run that goes on", err, errdefs.ErrNotFound)
	t.refused("PowerButton with halted CPUs", t.h.PowerButton(t.Context(), t.id), errdefs.ErrFailedPrecondition)
	t.must(t.h.Resume(t.Context(), t.id))
	t.must(t.h.PowerButton(t.Context(), t.id))
}

func aSecondBoot(t *hypervisorTrial) {
	t.begin()
	first, err := t.h.PID(t.Context(), t.id)
	t.must(err)
	t.must(t.h.Destroy(t.Context(), t.id))
	t.begin()
	second, err := t.h.PID(t.Context(), t.id)
	t.must(err)
	if first == second {
		t.Errorf("both boots have the process %d", first)
	}
	_, err = t.h.LastShutdown(t.Context(), t.id)
	t.refused("LastShutdown while the last run goes on", err, errdefs.ErrNotFound)
}

func eventsInOrder(t *hypervisorTrial) {
	before := time.Now()
	t.begin()
	t.must(t.h.Resume(t.Context(), t.id))
	t.must(t.h.Destroy(t.Context(), t.id))
	var kinds []vm.EventKind
	var last vm.Event
	for _, ev := range t.until(vm.EventStopped) {
		if ev.At.Before(before) || ev.At.After(time.Now()) {
			t.Errorf("event %+v is from another time", ev)
		}
		kinds, last = append(kinds, ev.Kind), ev
	}
	want := []vm.EventKind{vm.EventStarted, vm.EventSuspended, vm.EventResumed, vm.EventHostShutdown, vm.EventStopped}
	if !slices.Equal(kinds, want) || last.Detail != "destroyed" {
		t.Errorf("events %v, the last one %q; want %v, destroyed", kinds, last.Detail, want)
	}
}

func twoStarts(t *hypervisorTrial) {
	t.must(t.h.Define(t.Context(), t.machine()))
	var errs [2]error
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = t.h.Start(t.Context(), t.id) })
	}
	wg.Wait()
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Fatalf("two starts at once: %v, %v", errs[0], errs[1])
	}
	t.refused("the other Start", errors.Join(errs[:]...), errdefs.ErrFailedPrecondition)
	t.state(vm.DomainPaused)
}

func awaitExit(t *hypervisorTrial) {
	t.begin()
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	t.refused("AwaitExit of a domain that runs on", t.h.AwaitExit(short, t.id), context.DeadlineExceeded)
	awaited := make(chan error)
	go func() { awaited <- t.h.AwaitExit(t.Context(), t.id) }()
	t.must(t.h.Destroy(t.Context(), t.id))
	t.must(<-awaited)
	t.must(t.h.AwaitExit(t.Context(), t.id))
	t.until(vm.EventStopped)
}

func aPause(t *hypervisorTrial) {
	t.begin()
	t.must(t.h.Resume(t.Context(), t.id))
	for range 2 {
		t.must(t.h.Pause(t.Context(), t.id))
		t.state(vm.DomainPaused)
	}
	t.refused("PowerButton of a paused domain", t.h.PowerButton(t.Context(), t.id), errdefs.ErrFailedPrecondition)
	t.must(t.h.Resume(t.Context(), t.id))
	t.state(vm.DomainRunning)
}

func aReset(t *hypervisorTrial) {
	t.begin()
	t.refused("Reset with halted CPUs", t.h.Reset(t.Context(), t.id), errdefs.ErrFailedPrecondition)
	t.run()
	before, err := t.h.PID(t.Context(), t.id)
	t.must(err)
	t.must(t.h.Reset(t.Context(), t.id))
	t.until(vm.EventRebooted)
	t.state(vm.DomainRunning)
	if after, err := t.h.PID(t.Context(), t.id); err != nil || after != before {
		t.Errorf("PID after a reset: %d, %v, was %d", after, err, before)
	}
}

func anEndedContext(t *hypervisorTrial) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	t.refused("Define", t.h.Define(ended, t.machine()), context.Canceled)
	_, err := t.h.Domain(ended, t.id)
	t.refused("Domain", err, context.Canceled)
	_, err = t.h.Domains(ended)
	t.refused("Domains", err, context.Canceled)
	t.refused("Destroy", t.h.Destroy(ended, t.id), context.Canceled)
}

func whatTheHostCan(t *hypervisorTrial) {
	host, err := t.h.Host(t.Context(), vm.AccelTCG)
	if err != nil {
		t.Fatal(err)
	}
	if host.Libvirt == "" || host.QEMU == "" || !slices.Contains(host.Devices["filesystem.driverType"], "virtiofs") {
		t.Errorf("host = %+v", host)
	}
}
