// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// LibvirtdDir is the folder of the private libvirtd: what it calls /run/libvirt is "run" in
// there, and so on (see build/libvirtd.sh).
func LibvirtdDir() string { return filepath.Join(the.run, "libvirtd") }

// libvirtd runs a command of build/libvirtd.sh on the private libvirtd.
func libvirtd(command string) (string, error) {
	cmd := exec.Command(filepath.Join(the.repo, "build", "libvirtd.sh"), command, LibvirtdDir()) //nolint:noctx // our own script
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("libvirtd.sh %s: %w: %s", command, err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// StartLibvirtd starts libvirtd if it does not run.
func StartLibvirtd(t *testing.T) {
	t.Helper()
	if _, err := libvirtd("start"); err != nil {
		t.Fatal(err)
	}
}

// Virsh runs virsh on the private libvirtd and returns what it prints.
func Virsh(t *testing.T, args ...string) string {
	t.Helper()
	out, err := virsh(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func virsh(args ...string) (string, error) {
	cmd := exec.Command("virsh", append([]string{"-q", "-c", the.uri}, args...)...) //nolint:noctx // the test's own words
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("virsh %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
