// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestCPUMustShowThatItCanRunGuests(t *testing.T) {
	for name, tc := range map[string]struct {
		cpuinfo, arch string
		usable        bool
	}{
		"Intel":                     {"flags\t\t: fpu vme vmx est\n", "amd64", true},
		"AMD":                       {"flags\t\t: fpu svm\n", "amd64", true},
		"neither":                   {"flags\t\t: fpu vme\n", "amd64", false},
		"a word that contains it":   {"flags\t\t: fpu vmxlike\n", "amd64", false},
		"another line with it":      {"model name\t: svm\nflags\t\t: fpu\nbugs: vmx\n", "amd64", false},
		"not x86, which shows none": {"", "arm64", true},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "cpuinfo")
			if err := os.WriteFile(path, []byte(tc.cpuinfo), 0o600); err != nil {
				t.Fatal(err)
			}
			why, err := cpuUnusable(path, tc.arch)
			if err != nil || (why == "") != tc.usable {
				t.Errorf("got %q, %v; usable should be %v", why, err, tc.usable)
			}
		})
	}
}

func TestDeviceMustBeOpenToQEMUsUser(t *testing.T) {
	uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
	const other = 4242
	for name, tc := range map[string]struct {
		account account
		mode    os.FileMode
		usable  bool
	}{
		"root":                      {account{}, 0o000, true},
		"owner":                     {account{uid: uid}, 0o600, true},
		"member of the group":       {account{other, []uint32{other, gid}}, 0o660, true},
		"member, group may not":     {account{other, []uint32{gid}}, 0o606, false},
		"group may only read":       {account{other, []uint32{gid}}, 0o640, false},
		"stranger, private device":  {account{other, []uint32{other}}, 0o660, false},
		"stranger, device for all":  {account{other, []uint32{other}}, 0o666, true},
		"stranger may only read it": {account{other, []uint32{other}}, 0o664, false},
	} {
		t.Run(name, func(t *testing.T) {
			device := filepath.Join(t.TempDir(), "kvm")
			if err := os.WriteFile(device, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(device, tc.mode); err != nil {
				t.Fatal(err)
			}
			if why := tc.account.unusable(device); (why == "") != tc.usable {
				t.Errorf("got %q; usable should be %v", why, tc.usable)
			}
		})
	}
	if why := (account{}).unusable(filepath.Join(t.TempDir(), "none")); why == "" {
		t.Error("a device that is not there is usable")
	}
}

func TestAccountOfTheDACLabel(t *testing.T) {
	a, err := parseAccount("+4242:+4243")
	if err != nil || a.uid != 4242 || len(a.groups) != 1 || a.groups[0] != 4243 {
		t.Errorf("got %+v, %v", a, err)
	}
	for _, label := range []string{"", "+1", "a:b", "+1:"} {
		if a, err := parseAccount(label); err == nil {
			t.Errorf("parseAccount(%q) = %+v, want an error", label, a)
		}
	}
}

func TestAcceleratorFollowsItsMode(t *testing.T) {
	h := newTestHypervisor(t)
	h.host.cpuinfo = filepath.Join(t.TempDir(), "cpuinfo")
	if err := os.WriteFile(h.host.cpuinfo, []byte("flags : fpu\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if accel, why, err := h.Accelerator(t.Context(), "tcg"); err != nil || accel != vm.AccelTCG || why == "" {
		t.Errorf("tcg: %v, %q, %v", accel, why, err)
	}
	if accel, why, err := h.Accelerator(t.Context(), "auto"); err != nil || accel != vm.AccelTCG || !strings.Contains(why, "vmx") {
		t.Errorf("auto: %v, %q, %v", accel, why, err)
	}
	if _, _, err := h.Accelerator(t.Context(), "kvm"); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("kvm: %v, want FailedPrecondition", err)
	}
	if _, _, err := h.Accelerator(t.Context(), "KVM"); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("KVM: %v, want InvalidArgument", err)
	}
}
