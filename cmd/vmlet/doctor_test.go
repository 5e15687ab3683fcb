// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/vmlet/vmlet/pkg/config"
	"github.com/vmlet/vmlet/pkg/vm"
)

func TestChecksArePrintedWithTheirMends(t *testing.T) {
	var out bytes.Buffer
	err := printChecks(&out, []vm.Check{
		{Name: "libvirt", Level: vm.CheckOK, Summary: "it answers", Mend: "nothing to mend"},
		{Name: "console", Level: vm.CheckWarn, Summary: "it is slow", Mend: "make it fast"},
		{Name: "cni", Level: vm.CheckFail, Summary: "there is none", Mend: "put one there"},
	})
	want := `ok    libvirt         it answers
warn  console         it is slow
                      mend: make it fast
fail  cni             there is none
                      mend: put one there
`
	if out.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", &out, want)
	}
	if err == nil || err.Error() != "1 of 3 checks failed" {
		t.Errorf("error = %v", err)
	}
}

func TestWarningsAreNoFailure(t *testing.T) {
	if err := printChecks(&bytes.Buffer{}, []vm.Check{{Level: vm.CheckWarn}}); err != nil {
		t.Errorf("error = %v", err)
	}
}

// TestTheDoctorChangesNothing: not even the folders that the daemon would make.
func TestTheDoctorChangesNothing(t *testing.T) {
	dir := t.TempDir()
	c := config.Default()
	c.Root, c.State = filepath.Join(dir, "root"), filepath.Join(dir, "state")
	c.CNI.ConfDir, c.CNI.BinDirs = filepath.Join(dir, "cni"), []string{filepath.Join(dir, "bin")}
	c.Libvirt.URI = "qemu+unix:///system?socket=" + filepath.Join(dir, "libvirt-sock")
	c.Libvirt.LogDir, c.Libvirt.QEMUConf = filepath.Join(dir, "log"), filepath.Join(dir, "qemu.conf")
	checks, err := examine(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if checks[0].Name != "libvirt" || checks[0].Level != vm.CheckFail {
		t.Errorf("checks = %+v", checks)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("it made %v, %v", left, err)
	}
}
