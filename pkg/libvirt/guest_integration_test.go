// SPDX-License-Identifier: Apache-2.0

//go:build integration

package libvirt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"

	"github.com/vmlet/vmlet/pkg/libvirt/domainxml"
	"github.com/vmlet/vmlet/pkg/vm"
)

// How each end of a guest is told: by events, by the state's reason, by QEMU's log. The
// use cases fold these into an exit's reason, and the fake of lifecycletest repeats them.
func TestEveryEndOfAGuestHasItsStory(t *testing.T) {
	h := newHypervisor(t, testOwner)
	seen := record(t, h)
	for name, tc := range map[string]struct {
		end           func(*guest)
		story, reason string
	}{
		"poweroff in the guest": {
			func(g *guest) { g.sh("poweroff") }, "GuestShutdown/guest Stopped/shutdown", "shutdown",
		},
		"power button": {
			func(g *guest) { g.must(h.PowerButton(testContext(t), g.id)) }, "GuestShutdown/guest Stopped/shutdown", "shutdown",
		},
		"destroy": {
			func(g *guest) { g.must(h.Destroy(testContext(t), g.id)) }, "HostShutdown/host Stopped/destroyed", "destroyed",
		},
		"SIGTERM to QEMU": {
			func(g *guest) { g.must(syscall.Kill(g.pid(), syscall.SIGTERM)) }, "HostShutdown/host Stopped/shutdown", "shutdown",
		},
		"SIGKILL to QEMU": {
			func(g *guest) { g.must(syscall.Kill(g.pid(), syscall.SIGKILL)) }, "Stopped/failed", "crashed",
		},
		"panic": {
			func(g *guest) { g.sh("echo c > /proc/sysrq-trigger") }, "Panicked/panicked Stopped/crashed", "crashed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t, h, seen)
			g.boot()
			since := time.Now()
			tc.end(g)
			stopped := seen.wait(t, g.id, vm.EventStopped)
			story := withoutChance(seen.story(g.id, since))
			if story != tc.story {
				t.Errorf("events %q, want %q", story, tc.story)
			}
			d, err := h.Domain(testContext(t), g.id)
			if err != nil || d.State != vm.DomainShutoff || d.Reason != tc.reason {
				t.Errorf("state %+v, %v; want shut off, %q", d, err, tc.reason)
			}
			last, err := h.LastShutdown(testContext(t), g.id)
			if err != nil || last.Reason != tc.reason || last.At.Before(since.Truncate(time.Millisecond)) || last.At.After(stopped.At) {
				t.Errorf("log %+v, %v; want %q between %s and %s", last, err, tc.reason, since, stopped.At)
			}
		})
	}
	nothingIsLeft(t)
}

// withoutChance drops from the story of an end what happens to come or not: the agent's
// port may close before QEMU does; QEMU may tell that it stopped the CPUs of a guest that
// panicked; and a write that is under way when QEMU ends may fail.
func withoutChance(story string) string {
	for _, chance := range []string{"AgentDisconnected/channel ", "Suspended/paused ", "IOError "} {
		story = strings.ReplaceAll(story, chance, "")
	}
	return story
}

func TestGuestThatRebootsIsTheSameProcess(t *testing.T) {
	h := newHypervisor(t, testOwner)
	seen := record(t, h)
	g := newGuest(t, h, seen)
	g.boot()
	pid, since := g.pid(), time.Now()
	g.sh("reboot")
	seen.wait(t, g.id, vm.EventRebooted)
	seen.wait(t, g.id, vm.EventAgentConnected)
	story := seen.story(g.id, since)
	if strings.Contains(story, "Stopped") || !strings.Contains(story, "AgentDisconnected") {
		t.Errorf("events %q", story)
	}
	if again := g.pid(); again != pid {
		t.Errorf("QEMU was process %d and is %d", pid, again)
	}
}

func TestRunningGuestIsSeenFromAllSides(t *testing.T) {
	h := newHypervisor(t, testOwner)
	g := newGuest(t, h, record(t, h))
	if _, err := h.Agent().Command(testContext(t), g.id, []byte(`{"execute":"guest-ping"}`)); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("agent of an inactive domain: %v, want FailedPrecondition", err)
	}
	g.start()
	if _, err := h.Agent().Command(testContext(t), g.id, []byte(`{"execute":"guest-ping"}`)); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("agent of a guest that boots: %v, want Unavailable", err)
	}
	g.seen.wait(t, g.id, vm.EventAgentConnected)
	answer, err := h.Agent().Command(testContext(t), g.id, []byte(`{"execute":"guest-ping"}`))
	if err != nil || string(answer) != `{"return":{}}` {
		t.Errorf("agent: %s, %v", answer, err)
	}
	all, err := h.Domains(testContext(t))
	if err != nil || len(all) != 1 || all[0].State != vm.DomainRunning || !all[0].AgentConnected {
		t.Errorf("domains: %+v, %v; want it running with its agent", all, err)
	}
	stats, err := h.Stats(testContext(t))
	g.must(err)
	if len(stats) != 1 || stats[0].SandboxID != g.id {
		t.Fatalf("statistics: %+v, want those of one domain", stats)
	}
	if s := stats[0]; s.CPUTime == 0 || s.RSS == 0 || s.BlockReadBytes == 0 || s.BalloonCurrent != uint64(g.Memory) {
		t.Errorf("statistics: %+v", s)
	}
}

// Every guest of the node may be on the same base image.
func TestBaseImageKeepsItsOwnerAndMode(t *testing.T) {
	look := func() string {
		info, err := os.Stat(rig.image)
		if err != nil {
			t.Fatal(err)
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			t.Fatal("nothing tells the owner")
		}
		return fmt.Sprintf("%s %s %d:%d", info.Mode(), info.ModTime(), stat.Uid, stat.Gid)
	}
	before := look()
	h := newHypervisor(t, testOwner)
	g := newGuest(t, h, record(t, h))
	g.boot()
	if now := look(); now != before {
		t.Errorf("while a guest runs on it the base image is %s, it was %s", now, before)
	}
	g.must(h.Destroy(testContext(t), g.id))
	if now := look(); now != before {
		t.Errorf("after a guest has run on it the base image is %s, it was %s", now, before)
	}
}

// libvirt's schema has the XML of every device there is, and QEMU starts with it.
func TestMachineWithEverythingStarts(t *testing.T) {
	h := newHypervisor(t, testOwner)
	g := newGuest(t, h, record(t, h))
	extra := filepath.Join(g.dir, "extra.raw")
	seed := filepath.Join(g.dir, "seed.iso")
	for _, file := range []string{extra, seed} {
		g.must(os.WriteFile(file, make([]byte, vm.MiB), 0o600))
	}
	tap := "vmt" + g.id[:8]
	g.Watchdog = vm.Watchdog{Model: "i6300esb", Action: "reset"}
	g.NICs = []vm.NIC{{Name: "eth0", Tap: tap, MAC: "02:00:00:00:00:01", MTU: 1450}}
	g.Disks = append(g.Disks,
		vm.MachineDisk{Path: extra, Format: vm.FormatRaw, Bus: vm.BusSCSI, Serial: "extra", ErrorPolicy: "report"},
		vm.MachineDisk{Path: seed, Format: vm.FormatRaw, Bus: vm.BusVirtio, ReadOnly: true, ErrorPolicy: "report"})
	g.validate()
	g.must(h.Define(testContext(t), g.Machine))
	g.must(h.Start(testContext(t), g.id))
	mtu, err := os.ReadFile("/sys/class/net/" + tap + "/mtu")
	if err != nil || strings.TrimSpace(string(mtu)) != "1450" {
		t.Errorf("the tap's MTU is %q, %v", mtu, err)
	}
	g.must(h.Resume(testContext(t), g.id))
	g.must(h.Destroy(testContext(t), g.id))
	if _, err := os.Stat("/sys/class/net/" + tap); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the tap is left: %v", err)
	}
}

// validate defines a machine by XML that libvirt's schema checks. Define does without: it
// takes four times as long.
func (g *guest) validate() {
	g.t.Helper()
	def, err := domainxml.Domain(g.Machine)
	g.must(err)
	text, err := def.Marshal()
	g.must(err)
	g.must(run(testContext(g.t), g.h.domains, "validate domain", g.id, func(s *session) error {
		dom, err := s.DomainDefineXMLFlags(text, virt.DOMAIN_DEFINE_VALIDATE)
		if err == nil {
			free(dom)
		}
		return err
	}))
}

// AwaitExit is for speed, and must not change what is told.
func TestAwaitedPoweroffIsToldAsAnyOther(t *testing.T) {
	h := newHypervisor(t, testOwner)
	seen := record(t, h)
	g := newGuest(t, h, seen)
	g.boot()
	since := time.Now()
	awaited := make(chan error)
	go func() { awaited <- h.AwaitExit(testContext(t), g.id) }()
	g.must(h.PowerButton(testContext(t), g.id))
	g.must(<-awaited)
	stopped := seen.wait(t, g.id, vm.EventStopped)
	story := withoutChance(seen.story(g.id, since))
	if story != "GuestShutdown/guest Stopped/shutdown" {
		t.Errorf("events %q", story)
	}
	shutdown := seen.last(g.id, vm.EventGuestShutdown)
	t.Logf("libvirt told of QEMU's end %s after the guest's", stopped.At.Sub(shutdown.At))
}
