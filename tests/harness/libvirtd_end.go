// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// StopLibvirtd ends libvirtd by SIGTERM; VMs run on. StartLibvirtd brings it back.
func StopLibvirtd(t *testing.T) {
	t.Helper()
	endLibvirtd(t, syscall.SIGTERM)
}

// KillLibvirtd kills libvirtd with SIGKILL; VMs run on.
func KillLibvirtd(t *testing.T) {
	t.Helper()
	endLibvirtd(t, syscall.SIGKILL)
}

// RestartLibvirtd ends libvirtd and starts it again under the same reaper; VMs run on.
func RestartLibvirtd(t *testing.T) {
	t.Helper()
	StopLibvirtd(t)
	StartLibvirtd(t)
}

// endLibvirtd returns when it is gone. It takes no script, so that libvirtd ends at the moment that a test has chosen.
func endLibvirtd(t *testing.T, sig syscall.Signal) {
	t.Helper()
	pidFile := filepath.Join(LibvirtdDir(), "libvirtd.pid")
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
	// Not our child, and a zombie has no executable. The reaper takes its file away.
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		_, runs := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if _, err := os.Stat(pidFile); runs != nil && err != nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("libvirtd, pid %d, does not end", pid)
		}
	}
}
