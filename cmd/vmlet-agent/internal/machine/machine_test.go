// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/guesttest"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

func TestMain(m *testing.M) { guesttest.Run(m.Run) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newMachine returns a guest that consists of these files.
func newMachine(t *testing.T, files map[string]string) *Machine {
	t.Helper()
	m := &Machine{root: t.TempDir()}
	for file, content := range files {
		must(t, os.MkdirAll(filepath.Dir(m.path(file)), 0o700))
		must(t, os.WriteFile(m.path(file), []byte(content), 0o600))
	}
	return m
}

func TestInfoIsReadFromTheKernelsFiles(t *testing.T) {
	m := newMachine(t, map[string]string{
		"proc/sys/kernel/random/boot_id": "b-1\n", "proc/sys/kernel/hostname": "h\n", "proc/sys/kernel/osrelease": "6.1\n",
		"proc/uptime":                   "12.50 3.00\n",
		"proc/meminfo":                  "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  400 kB\nHugePages_Total: 0\n",
		"usr/lib/os-release":            "ID=x\nPRETTY_NAME=\"A System 1\"\n",
		"sys/devices/system/cpu/online": "0-2,5\n",
	})
	i := m.Info()
	if i.GetBootId() != "b-1" || i.GetHostname() != "h" || i.GetKernel() != "6.1" || i.GetUptimeNano() != int64(12500*time.Millisecond) ||
		i.GetMemoryTotalBytes() != 1000<<10 || i.GetMemoryAvailableBytes() != 400<<10 || i.GetOs() != "A System 1" || i.GetCpusOnline() != 4 {
		t.Errorf("%v", i)
	}
	if _, err := (&Machine{root: t.TempDir()}).BootID(); err == nil {
		t.Error("a guest without a boot ID")
	}
	if i := (&Machine{root: t.TempDir()}).Info(); i.GetCpusOnline() != 0 {
		t.Errorf("of nothing: %v", i)
	}
}

func TestSysctlsAreFilesBelowProcSys(t *testing.T) {
	for name, want := range map[string]string{
		"net.ipv4.ip_forward":       "net/ipv4/ip_forward",
		"net/ipv4/ip_forward":       "net/ipv4/ip_forward",
		"net.ipv4.conf.eth0/100.rp": "net/ipv4/conf/eth0.100/rp",
		"net/ipv4/conf/eth0.100/rp": "net/ipv4/conf/eth0.100/rp",
		"vm":                        "vm",
		"kernel.shm_rmid_forced":    "kernel/shm_rmid_forced",
	} {
		if got := sysctlFile(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestSetupSetsSysctlsAndResolvConf(t *testing.T) {
	m := newMachine(t, map[string]string{"proc/sys/net/x": "0\n", "proc/sys/kernel/sem": "1\t2\t3\n", "etc/hosts": "", "secret": "s"})
	must(t, os.Symlink("../run/stub", m.path("etc/resolv.conf")))
	req := &agentv1.SetupRequest{
		Sysctls: map[string]string{"net.x": "1", "kernel.sem": "1 2 3"}, ResolvConf: []byte("nameserver 10.0.0.1\n"),
	}
	for range 2 {
		must(t, m.Setup(req))
	}
	for file, want := range map[string]string{
		"proc/sys/net/x": "1", "proc/sys/kernel/sem": "1\t2\t3\n", "etc/resolv.conf": "nameserver 10.0.0.1\n",
	} {
		if b, err := os.ReadFile(m.path(file)); err != nil || strings.TrimRight(string(b), "\n") != strings.TrimRight(want, "\n") {
			t.Errorf("%s: %q, %v", file, b, err)
		}
	}
	if entries, err := os.ReadDir(m.path("etc")); err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	before, err := os.Stat(m.path("etc/resolv.conf"))
	must(t, err)
	must(t, m.Setup(req))
	if after, err := os.Stat(m.path("etc/resolv.conf")); err != nil || !os.SameFile(before, after) {
		t.Errorf("the same content was written again: %v", err)
	}
}

func TestSysctlsThatAreNone(t *testing.T) {
	m := newMachine(t, map[string]string{"proc/sys/net/x": "0\n", "secret": "s"})
	for name, is := range map[string]func(error) bool{
		"net.y": errdefs.IsFailedPrecondition, "net": errdefs.IsFailedPrecondition,
		"../../secret": errdefs.IsInvalidArgument, "/../../secret": errdefs.IsInvalidArgument, "": errdefs.IsInvalidArgument,
		"net/../../../secret": errdefs.IsInvalidArgument,
	} {
		if err := m.Setup(&agentv1.SetupRequest{Sysctls: map[string]string{name: "1"}}); !is(err) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if m.read("secret") != "s" {
		t.Error("written outside of /proc/sys")
	}
}

func TestTheHostnameIsTheRunningKernels(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("names are set by root")
	}
	m := New()
	must(t, m.Setup(&agentv1.SetupRequest{Hostname: "pod-1"}))
	if name, err := os.Hostname(); err != nil || name != "pod-1" {
		t.Errorf("%s, %v", name, err)
	}
	if err := m.Setup(&agentv1.SetupRequest{Hostname: strings.Repeat("x", 65)}); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
}

func TestOnlineBringsIntoUseWhatIsNot(t *testing.T) {
	m := newMachine(t, map[string]string{
		"sys/devices/system/cpu/cpu1/online":      "0\n",
		"sys/devices/system/cpu/cpu2/online":      "1\n",
		"sys/devices/system/cpu/cpufreq/online":   "0\n",
		"sys/devices/system/memory/memory8/state": "offline\n",
		"sys/devices/system/memory/memory9/state": "offline\n",
		"sys/devices/system/memory/memory0/state": "online\n",
	})
	o, err := m.Online()
	if err != nil || o.GetCpus() != 1 || o.GetMemoryBlocks() != 2 {
		t.Errorf("%v, %v", o, err)
	}
	if m.read("sys/devices/system/cpu/cpufreq/online") != "0" || m.read("sys/devices/system/memory/memory8/state") != "online" {
		t.Error("the wrong ones")
	}
}

// frozenSet counts what a Freezer asks of the kernel.
type frozenSet struct {
	frozen []string
	refuse map[string]error
}

func (s *frozenSet) ioctl(f *os.File, request uint) error {
	if request == fiFreeze {
		if err := s.refuse[f.Name()]; err != nil {
			return err
		}
		s.frozen = append(s.frozen, f.Name())
		return nil
	}
	i := slices.Index(s.frozen, f.Name())
	if i < 0 {
		return unix.EINVAL
	}
	s.frozen = slices.Delete(s.frozen, i, i+1)
	return nil
}

// newFreezer returns a Freezer of a guest with two file systems, and where these are.
func newFreezer(t *testing.T, s *frozenSet) (f *Freezer, points []string) {
	t.Helper()
	f, err := NewFreezer(New(), filepath.Join(t.TempDir(), "run", "frozen"), func(err error) { t.Error(err) })
	must(t, err)
	points = []string{t.TempDir(), t.TempDir()}
	f.mounts = func() ([]*mountinfo.Info, error) {
		return []*mountinfo.Info{{Mountpoint: points[0]}, {Mountpoint: points[1]}}, nil
	}
	f.ioctl = s.ioctl
	return f, points
}

func TestFrozenFileSystemsThawByThemselves(t *testing.T) {
	for _, why := range []string{"timeout", "session", "call"} {
		t.Run(why, func(t *testing.T) {
			s := &frozenSet{}
			f, all := newFreezer(t, s)
			timeout, lost := time.Hour/60, make(chan struct{})
			if why == "timeout" {
				timeout = time.Millisecond
			}
			points, err := f.Freeze(timeout, lost)
			if err != nil || !slices.Equal(points, []string{all[1], all[0]}) {
				t.Fatalf("%v, %v", points, err)
			}
			thawed := f.thawedNow()
			switch why {
			case "session":
				close(lost)
			case "call":
				if again, err := f.Freeze(timeout, lost); !errdefs.IsFailedPrecondition(err) {
					t.Errorf("twice: %v, %v", again, err)
				}
				if got, err := f.Thaw(); err != nil || len(got) != len(points) {
					t.Errorf("%v, %v", got, err)
				}
			}
			<-thawed
			if got, err := f.Thaw(); err != nil || len(got) != 0 || len(s.frozen) != 0 {
				t.Errorf("left: %v, %v, %v", got, s.frozen, err)
			}
			if _, err := os.Stat(f.note); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the note is left: %v", err)
			}
		})
	}
}

// thawedNow is closed when what is frozen now has thawed.
func (f *Freezer) thawedNow() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.thawed == nil {
		c := make(chan struct{})
		close(c)
		return c
	}
	return f.thawed
}

func TestAFreezeThatFailsLeavesNothingFrozen(t *testing.T) {
	s := &frozenSet{refuse: map[string]error{}}
	f, all := newFreezer(t, s)
	s.refuse[all[0]] = unix.EIO
	if points, err := f.Freeze(time.Minute, nil); !errors.Is(err, unix.EIO) || len(s.frozen) != 0 {
		t.Errorf("%v, %v, frozen: %v", points, err, s.frozen)
	}
	s.refuse[all[0]] = unix.EOPNOTSUPP
	points, err := f.Freeze(time.Minute, nil)
	if err != nil || !slices.Equal(points, all[1:]) {
		t.Errorf("%v, %v", points, err)
	}
	if _, err := f.Thaw(); err != nil {
		t.Error(err)
	}
	for _, timeout := range []time.Duration{0, -1, time.Hour} {
		if _, err := f.Freeze(timeout, nil); !errdefs.IsInvalidArgument(err) {
			t.Errorf("for %v: %v", timeout, err)
		}
	}
}

func TestTheNextAgentThawsWhatIsLeft(t *testing.T) {
	s := &frozenSet{}
	f, _ := newFreezer(t, s)
	points, err := f.Freeze(time.Minute, nil)
	must(t, err)
	next := &Freezer{note: f.note, log: f.log, ioctl: s.ioctl}
	must(t, next.thawLeft())
	if len(points) == 0 || len(s.frozen) != 0 {
		t.Errorf("%v of %v are frozen", s.frozen, points)
	}
}
