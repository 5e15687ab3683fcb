// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"google.golang.org/grpc/codes"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

func TestDoctor(t *testing.T) {
	w := newWorld(t)
	w.checks = []*vmletv1.Check{
		{Name: "libvirt", Level: vmletv1.CheckLevel_CHECK_LEVEL_OK, Summary: "libvirt 9.0.0, QEMU 7.2.19"},
		{Name: "kvm-device", Level: vmletv1.CheckLevel_CHECK_LEVEL_WARN, Summary: "/dev/kvm is absent", Mend: "modprobe kvm_intel"},
	}
	got := w.ctl(t, "doctor")
	got.wantOK(t) // warnings do not count
	w.checks = append(w.checks, &vmletv1.Check{
		Name: "cni", Level: vmletv1.CheckLevel_CHECK_LEVEL_FAIL, Summary: "no configuration", Mend: "put one into /etc/cni/net.d",
	})
	for file, args := range map[string][]string{
		"doctor.txt":  {"doctor"},
		"doctor.json": {"doctor", "-o", "json"},
	} {
		got := w.ctl(t, args...)
		got.wantError(t, exitFailed, "1 of 3 checks failed")
		golden(t, file, got.stdout)
	}
}

func TestVersion(t *testing.T) {
	w := newWorld(t)
	for file, args := range map[string][]string{
		"version.txt":  {"version"},
		"version.json": {"version", "-o", "json"},
	} {
		got := w.ctl(t, args...)
		got.wantOK(t)
		golden(t, file, got.stdout)
	}
}

func TestVersionTellsItsOwnWithoutVmlet(t *testing.T) {
	w := newWorld(t)
	w.fail("Version", codes.Unavailable, "vmlet is starting")
	got := w.ctl(t, "version")
	got.wantError(t, exitFailed, "vmlet is starting")
	if got.stdout != "vmletctl  0.0.0-dev  unknown\n" {
		t.Errorf("got %q", got.stdout)
	}
}
