// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vmlet/vmlet/pkg/config"
	"github.com/vmlet/vmlet/pkg/vm"
)

// parts are libvirt and CNI as a test wants them.
type parts struct {
	down, noQEMU, noAccel, noCNI error
	noFirmware                   error
	firmwares                    []string
	accel                        vm.Accel
	why                          string
}

type fakeLibvirt struct{ parts }

func (p fakeLibvirt) Ready(context.Context) error { return p.down }
func (p fakeLibvirt) Versions(context.Context) (daemon, qemu string, err error) {
	return "9.0.0", "7.2.0", p.noQEMU
}

func (p fakeLibvirt) Firmwares(context.Context) ([]string, error) { return p.firmwares, p.noFirmware }

func (p fakeLibvirt) Accelerator(context.Context, string) (vm.Accel, string, error) {
	return p.accel, p.why, p.noAccel
}

type fakeNetwork struct{ parts }

func (p fakeNetwork) Ready(context.Context) error { return p.noCNI }

// newDoctor makes a doctor of a host whose files are in a folder, where QEMU runs as
// whoever runs the test.
func newDoctor(t *testing.T, p parts) *Doctor {
	t.Helper()
	c := config.Default()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	c.QEMU = config.QEMU{User: me.Uid, Group: me.Gid}
	return &Doctor{Config: c, Libvirt: fakeLibvirt{p}, Network: fakeNetwork{p}, Root: t.TempDir()}
}

// file puts a file below the doctor's root.
func (d *Doctor) file(t *testing.T, path, text string) string {
	t.Helper()
	full := d.path(path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return full
}

// wants judges a finding; what is not right must say how to mend it.
func wants(t *testing.T, got vm.Check, level vm.CheckLevel, text string) {
	t.Helper()
	if got.Level != level || !strings.Contains(got.Summary, text) {
		t.Errorf("found %s: %q, want %s: %q", got.Level, got.Summary, level, text)
	}
	if got.Level != vm.CheckOK && got.Mend == "" {
		t.Errorf("%q has no mend", got.Summary)
	}
}

func TestLibvirtAndItsParts(t *testing.T) {
	ill := errors.New("it is ill")
	for name, tc := range map[string]struct {
		parts parts
		run   func(*Doctor) vm.Check
		level vm.CheckLevel
		text  string
	}{
		"libvirt answers":         {parts{}, func(d *Doctor) vm.Check { return d.libvirt(t.Context()) }, vm.CheckOK, "libvirt 9.0.0 with QEMU 7.2.0"},
		"libvirt is down":         {parts{down: ill}, func(d *Doctor) vm.Check { return d.libvirt(t.Context()) }, vm.CheckFail, "it is ill"},
		"libvirt without QEMU":    {parts{noQEMU: ill}, func(d *Doctor) vm.Check { return d.libvirt(t.Context()) }, vm.CheckFail, "has no QEMU"},
		"CNI is there":            {parts{}, func(d *Doctor) vm.Check { return d.cni(t.Context()) }, vm.CheckOK, "CNI is configured"},
		"CNI is not":              {parts{noCNI: ill}, func(d *Doctor) vm.Check { return d.cni(t.Context()) }, vm.CheckFail, "it is ill"},
		"kvm":                     {parts{accel: vm.AccelKVM}, func(d *Doctor) vm.Check { return d.accelerator(t.Context()) }, vm.CheckOK, "kvm"},
		"tcg though auto":         {parts{accel: vm.AccelTCG, why: "no vmx"}, func(d *Doctor) vm.Check { return d.accelerator(t.Context()) }, vm.CheckWarn, "no vmx"},
		"an accelerator in vain":  {parts{noAccel: ill}, func(d *Doctor) vm.Check { return d.accelerator(t.Context()) }, vm.CheckFail, "it is ill"},
		"UEFI":                    {parts{firmwares: []string{"bios", "efi"}}, func(d *Doctor) vm.Check { return d.firmware(t.Context()) }, vm.CheckOK, "by UEFI"},
		"no UEFI":                 {parts{}, func(d *Doctor) vm.Check { return d.firmware(t.Context()) }, vm.CheckWarn, "cannot boot by UEFI"},
		"UEFI, who knows":         {parts{noFirmware: ill}, func(d *Doctor) vm.Check { return d.firmware(t.Context()) }, vm.CheckWarn, "it is ill"},
		"taps without their file": {parts{}, func(d *Doctor) vm.Check { return d.kernelTun(t.Context()) }, vm.CheckFail, "taps cannot be made"},
	} {
		t.Run(name, func(t *testing.T) { wants(t, tc.run(newDoctor(t, tc.parts)), tc.level, tc.text) })
	}
}

func TestQEMUConf(t *testing.T) {
	const good = "stdio_handler = \"file\"\ncgroup_controllers = []\n"
	for name, tc := range map[string]struct {
		conf                    string // "-" for no file
		cgroups                 string // the daemon's setting
		console, groups, userIs vm.CheckLevel
	}{
		"as it should be":                   {good, "auto", vm.CheckOK, vm.CheckOK, vm.CheckOK},
		"no file":                           {"-", "auto", vm.CheckWarn, vm.CheckWarn, vm.CheckWarn},
		"libvirt's defaults":                {"", "auto", vm.CheckWarn, vm.CheckWarn, vm.CheckOK},
		"libvirt's defaults, cgroups: pod":  {"", "pod", vm.CheckWarn, vm.CheckFail, vm.CheckOK},
		"controllers off, cgroups: libvirt": {good, "libvirt", vm.CheckOK, vm.CheckFail, vm.CheckOK},
		"controllers on, cgroups: libvirt":  {"", "libvirt", vm.CheckWarn, vm.CheckWarn, vm.CheckOK},
		"another user":                      {good + "user = \"somebody\"\n", "auto", vm.CheckOK, vm.CheckOK, vm.CheckFail},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDoctor(t, parts{})
			d.Config.Cgroups = tc.cgroups
			if tc.conf != "-" {
				d.file(t, d.Config.Libvirt.QEMUConf, tc.conf)
			}
			wants(t, d.console(t.Context()), tc.console, "")
			wants(t, d.cgroups(t.Context()), tc.groups, "")
			wants(t, d.qemuUser(t.Context()), tc.userIs, "")
		})
	}
}

func TestQEMUsAccountIsFoundByNameOrNumber(t *testing.T) {
	d := newDoctor(t, parts{})
	byNumber, err := d.qemuAccount()
	if err != nil {
		t.Fatal(err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	d.Config.QEMU.User, d.Config.QEMU.Group = me.Username, ""
	byName, err := d.qemuAccount()
	if err != nil || byName.uid != byNumber.uid {
		t.Errorf("%+v, %v; by number it is %+v", byName, err, byNumber)
	}
	d.Config.QEMU.User = "no such user"
	if _, err := d.qemuAccount(); err == nil {
		t.Error("an unknown user is found")
	}
	d.Config.QEMU.User = "4294967296"
	if _, err := d.qemuAccount(); err == nil {
		t.Error("a number beyond 32 bits is found")
	}
}

// modeOf is a file's mode and owner, as stat tells them.
type modeOf struct {
	fs.FileInfo
	mode     fs.FileMode
	uid, gid uint32
}

func (m modeOf) Mode() fs.FileMode { return m.mode }
func (m modeOf) Sys() any          { return &syscall.Stat_t{Uid: m.uid, Gid: m.gid} }

func TestRightsAreThoseOfTheFirstClassThatFits(t *testing.T) {
	qemu := account{uid: 64055, groups: []uint32{107, 108}}
	for _, tc := range []struct {
		mode     fs.FileMode
		uid, gid uint32
		want     bool
	}{
		{0o600, 64055, 0, true},
		{0o066, 64055, 107, false}, // its owner may not, though all others may
		{0o660, 0, 107, true},
		{0o660, 0, 108, true}, // a further group of the user
		{0o660, 0, 36, false},
		{0o606, 0, 107, false},
		{0o666, 0, 0, true},
		{0o640, 0, 107, false},
		{0o600, 0, 0, false},
	} {
		if got := qemu.may(0o6, modeOf{mode: tc.mode, uid: tc.uid, gid: tc.gid}); got != tc.want {
			t.Errorf("mode %04o of %d:%d: may open it: %v, want %v", tc.mode, tc.uid, tc.gid, got, tc.want)
		}
	}
}

func TestTheKVMDevice(t *testing.T) {
	d := newDoctor(t, parts{})
	wants(t, d.kvmDevice(t.Context()), vm.CheckOK, "no /dev/kvm")
	dev := d.file(t, "/dev/kvm", "")
	wants(t, d.kvmDevice(t.Context()), vm.CheckOK, "may open")
	if err := os.Chmod(dev, 0o060); err != nil { // to its owner, who is QEMU here
		t.Fatal(err)
	}
	wants(t, d.kvmDevice(t.Context()), vm.CheckWarn, "mode 0060")
	d.Config.QEMU.User = "no such user"
	wants(t, d.kvmDevice(t.Context()), vm.CheckWarn, "not known")
}

func TestFoldersLetQEMUPass(t *testing.T) {
	d := newDoctor(t, parts{})
	wants(t, d.folders(t.Context()), vm.CheckOK, d.Config.Root)
	if err := os.MkdirAll(d.path(d.Config.Root), 0o755); err != nil {
		t.Fatal(err)
	}
	wants(t, d.folders(t.Context()), vm.CheckOK, d.Config.Root)
	if err := os.Chmod(d.path(d.Config.Root), 0o677); err != nil {
		t.Fatal(err)
	}
	wants(t, d.folders(t.Context()), vm.CheckFail, "cannot pass")
}

func TestTheStateFolderIsOneThatARebootClears(t *testing.T) {
	d := newDoctor(t, parts{})
	d.Root = "/"
	d.Config.State = "/proc/self"
	wants(t, d.stateFolder(t.Context()), vm.CheckWarn, "not on a tmpfs")
	d.Config.State = "/dev/shm/vmlet-that-is-not-there"
	if mounts, err := os.ReadFile("/proc/self/mounts"); err != nil || !strings.Contains(string(mounts), " /dev/shm tmpfs ") {
		t.Skip("no tmpfs at /dev/shm")
	}
	wants(t, d.stateFolder(t.Context()), vm.CheckOK, "on a tmpfs")
}

func TestDiskSpaceIsThatOfTheNearestFolder(t *testing.T) {
	d := newDoctor(t, parts{})
	if got := d.diskSpace(t.Context()); !strings.Contains(got.Summary, "MiB free at "+d.Root) {
		t.Errorf("found %q", got.Summary)
	}
}

// process puts a process into a made procfs.
func (d *Doctor) process(t *testing.T, pid int, name string, parent int) {
	t.Helper()
	d.file(t, fmt.Sprintf("/proc/%d/comm", pid), name+"\n")
	d.file(t, fmt.Sprintf("/proc/%d/stat", pid), fmt.Sprintf("%d (%s) S %d 1 1 0 -1", pid, name, parent))
}

func TestTheReaperIsTheParentOfAQEMUElseOfLibvirtd(t *testing.T) {
	d := newDoctor(t, parts{})
	d.process(t, 1, "init", 0)
	if _, _, err := d.qemuParent(); err == nil {
		t.Error("there is a reaper without libvirtd and QEMU")
	}
	wants(t, d.reaper(t.Context()), vm.CheckWarn, "neither libvirtd nor a QEMU runs")
	d.process(t, 7, "tini", 1)
	d.process(t, 20, "libvirtd", 7)
	if pid, what, err := d.qemuParent(); err != nil || pid != 7 || what != "libvirtd" {
		t.Errorf("parent %d of %s, %v", pid, what, err)
	}
	wants(t, d.reaper(t.Context()), vm.CheckOK, "reaped by tini (PID 7)")
	d.process(t, 9, "my reaper", 1)
	d.process(t, 30, "qemu-system-x8) R 3 (", 9) // a name with all that could mislead
	if pid, what, err := d.qemuParent(); err != nil || pid != 9 || what != "QEMU" {
		t.Errorf("parent %d of %s, %v", pid, what, err)
	}
	wants(t, d.reaper(t.Context()), vm.CheckOK, "reaped by my reaper (PID 9)")
}

func TestAnOrphanIsReaped(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), probeTimeout)
	defer cancel()
	if _, err := orphanReaped(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestACheckThatHangsIsAFinding(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	hang := make(chan struct{})
	defer close(hang)
	got := bounded(ctx, check{"slow", func(context.Context) vm.Check { <-hang; return vm.Check{} }})
	wants(t, got, vm.CheckFail, "no answer within")
	if got.Name != "slow" {
		t.Errorf("it is named %q", got.Name)
	}
}

func TestEveryFindingHasAName(t *testing.T) {
	d := newDoctor(t, parts{})
	seen := map[string]bool{}
	for _, c := range d.Run(t.Context()) {
		if c.Name == "" || seen[c.Name] || c.Level == "" || c.Summary == "" {
			t.Errorf("finding %+v", c)
		}
		seen[c.Name] = true
	}
}
