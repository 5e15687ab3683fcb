// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/vmlet/vmlet/pkg/vm"
)

// slowReap is how long a dead process may stay a zombie before it is a finding.
const slowReap = 200 * time.Millisecond

// reapers are programs that reap at once and make themselves subreapers.
var reapers = map[string]bool{"systemd": true, "tini": true, "reaper": true, "dumb-init": true, "catatonit": true}

// reaper finds out who reaps dead QEMU processes, and how fast where that can be tried.
// QEMU is a daemon: when it dies, its parent is PID 1 or the nearest subreaper, and
// libvirt's destroy waits until that parent has reaped it.
func (d *Doctor) reaper(ctx context.Context) vm.Check {
	parent, what, err := d.qemuParent()
	if err != nil {
		return warn(fmt.Sprintf("who reaps QEMU is not known: %v", err), "run libvirtd under a process that reaps at once, such as systemd or tini")
	}
	proc := d.path("/proc")
	if above := processName(proc, parent); parent != 1 && (what == "QEMU" || reapers[above]) {
		return ok("dead QEMUs are reaped by %s (PID %d), at once", above, parent)
	}
	took, err := orphanReaped(ctx)
	name := processName(proc, 1)
	switch {
	case err != nil:
		return warn(fmt.Sprintf("how fast PID 1 (%s) reaps is not known: %v", name, err), "look at what runs as PID 1: a stop of a VM takes as long as that takes to reap")
	case took > slowReap:
		return warn(fmt.Sprintf("PID 1 (%s) took %s to reap a dead process: every stop of a VM waits for that", name, took.Round(time.Millisecond)),
			"run libvirtd under a subreaper that outlives it (build/reaper), or a PID 1 that reaps at once (tini, systemd)")
	}
	return ok("PID 1 (%s) reaped a dead process in %s", name, took.Round(time.Millisecond))
}

// qemuParent finds the process that QEMUs have as parent: that of a QEMU which runs, or
// else the one that libvirtd's orphans would go to, taken to be libvirtd's own parent.
func (d *Doctor) qemuParent() (pid int, what string, err error) {
	proc := d.path("/proc")
	entries, err := os.ReadDir(proc)
	if err != nil {
		return 0, "", err
	}
	daemon := 0
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		switch name := processName(proc, pid); {
		case strings.HasPrefix(name, "qemu-system"):
			ppid, err := parentOf(proc, pid)
			if isGone(err) {
				continue
			}
			return ppid, "QEMU", err
		case name == "libvirtd" || name == "virtqemud":
			daemon = pid
		}
	}
	if daemon == 0 {
		return 0, "", fmt.Errorf("neither libvirtd nor a QEMU runs")
	}
	ppid, err := parentOf(proc, daemon)
	return ppid, "libvirtd", err
}

// processName is comm, which the kernel cuts off after 15 bytes.
func processName(proc string, pid int) string {
	b, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "comm"))
	if err != nil {
		return "?"
	}
	return strings.TrimSpace(string(b))
}

// parentOf reads the parent from stat, whose second field may hold spaces and brackets.
func parentOf(proc string, pid int) (int, error) {
	b, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 2 {
		return 0, fmt.Errorf("process %d: its stat cannot be read", pid)
	}
	return strconv.Atoi(fields[1])
}

// orphanReaped makes a grandchild that dies after its parent and measures how long it
// stays a zombie.
func orphanReaped(ctx context.Context) (time.Duration, error) {
	out, err := exec.CommandContext(ctx, "/bin/sh", "-c", "sleep 0.05 >/dev/null 2>&1 & echo $!").Output()
	if err != nil {
		return 0, fmt.Errorf("make an orphan: %w", err)
	}
	stat := filepath.Join("/proc", strings.TrimSpace(string(out)), "stat")
	tick := time.NewTicker(2 * time.Millisecond) // a zombie gives no event to those who are not its parent
	defer tick.Stop()
	var died time.Time
	for {
		b, err := os.ReadFile(stat)
		if isGone(err) {
			if died.IsZero() {
				return 0, nil
			}
			return time.Since(died), nil
		}
		if err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(b, ')'); died.IsZero() && i > 0 && i+2 < len(b) && b[i+2] == 'Z' {
			died = time.Now()
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-tick.C:
		}
	}
}
