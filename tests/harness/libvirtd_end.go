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
	text, err := os.ReadFile(filepath.Join(LibvirtdDir(), "libvirtd.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	// Not our child, and a zombie has no executable.
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err != nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("libvirtd, pid %d, does not end", pid)
		}
	}
}
