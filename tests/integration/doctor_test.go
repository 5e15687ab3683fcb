// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vmlet/vmlet/tests/harness"
)

// TestDoctorOnABrokenHost breaks the host one way at a time; doctor names the fault and
// its mend, and finds nothing before and after.
func TestDoctorOnABrokenHost(t *testing.T) {
	node := harness.NewNode(t)
	doctor := func(args ...string) (string, bool) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), harness.Bin("vmlet-failpoints"), append([]string{"doctor", "--config", node.ConfigFile()}, args...)...).CombinedOutput()
		return string(out), err == nil
	}
	if out, healthy := doctor(); !healthy {
		t.Fatalf("the host is broken before we break it:\n%s", out)
	}
	// finding wants a line of that level and check, and a mend that says what to do.
	finding := func(t *testing.T, out, level, check, mend string) {
		t.Helper()
		pattern := regexp.MustCompile(`(?m)^` + level + ` +` + check + ` .*\n +mend: .*` + regexp.QuoteMeta(mend))
		if !pattern.MatchString(out) {
			t.Errorf("no %s of %s with the mend %q in:\n%s", level, check, mend, out)
		}
	}
	t.Run("no CNI configuration", func(t *testing.T) {
		out, healthy := doctor("--cni-conf-dir", t.TempDir())
		if healthy {
			t.Error("it exits with 0")
		}
		finding(t, out, "fail", "cni", "put a CNI configuration into")
	})
	t.Run("libvirt down", func(t *testing.T) {
		out, healthy := doctor("--libvirt-uri", "qemu+unix:///system?socket=/nonexistent/libvirt-sock")
		if healthy {
			t.Error("it exits with 0")
		}
		finding(t, out, "fail", "libvirt", "start libvirtd")
	})
	t.Run("/dev/kvm closed to QEMU", func(t *testing.T) {
		info, err := os.Stat("/dev/kvm")
		if err != nil {
			t.Skip("there is no /dev/kvm on this machine, so nothing can be wrong with it")
		}
		if err := os.Chmod("/dev/kvm", 0o600); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := os.Chmod("/dev/kvm", info.Mode().Perm()); err != nil {
				t.Error(err)
			}
		}()
		out, _ := doctor()
		finding(t, out, "warn", "kvm-device", "chmod 0660 /dev/kvm")
	})
	t.Run("libvirt's own cgroups on", func(t *testing.T) {
		conf := filepath.Join(t.TempDir(), "qemu.conf")
		if err := os.WriteFile(conf, []byte("stdio_handler = \"logd\"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(node.ConfigFile())
		if err != nil {
			t.Fatal(err)
		}
		config := filepath.Join(t.TempDir(), "config.yaml")
		text := regexp.MustCompile(`qemuConf: [^}]*`).ReplaceAllString(string(b), "qemuConf: "+conf)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, _ := doctor("--config", config)
		finding(t, out, "warn", "cgroups", "set cgroup_controllers = [] in "+conf)
		finding(t, out, "warn", "console", `set stdio_handler = "file" in `+conf)
	})
	if out, healthy := doctor(); !healthy || strings.Contains(out, "\nfail") {
		t.Errorf("the host is broken afterwards:\n%s", out)
	}
}
