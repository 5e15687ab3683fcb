// SPDX-License-Identifier: Apache-2.0

//go:build integration

package vmagent

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// These tests boot the tiny guest image in a QEMU of their own, software-emulated, and speak
// to the agent in it. They need no root.

// bootPatience is how long a guest may take to boot on a busy host.
const bootPatience = 2 * time.Minute

// boot starts a guest, and returns Agents that are connected to it as "a".
func bootTiny(tb testing.TB) *Agents {
	tb.Helper()
	image := os.Getenv("VMLET_TEST_GUEST_IMAGE")
	if image == "" {
		image = "../../../bin/tiny.qcow2"
	}
	image, err := filepath.Abs(image)
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	root, socket := filepath.Join(dir, "root.qcow2"), filepath.Join(dir, "agent.sock")
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", image, root).CombinedOutput(); err != nil {
		tb.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command("qemu-system-x86_64",
		"-machine", "q35,accel=tcg", "-cpu", "max", "-m", "128", "-nodefaults", "-display", "none",
		"-serial", "file:"+filepath.Join(dir, "console"),
		"-drive", "if=virtio,format=qcow2,file="+root,
		"-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
		"-chardev", "socket,id=agent,server=on,wait=off,path="+socket,
		"-device", "virtserialport,chardev=agent,name=org.vmlet.agent.0",
		"-chardev", "file,id=output,append=on,path="+filepath.Join(dir, "output"),
		"-device", "virtserialport,chardev=output,name=org.vmlet.output.0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	a := New(func(string) string { return socket })
	a.Connect("a") // before there is a socket
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		a.Disconnect("a")
		if err := cmd.Process.Kill(); err == nil {
			tb.Logf("QEMU was killed: %v", cmd.Wait())
		}
		if console, err := os.ReadFile(filepath.Join(dir, "console")); tb.Failed() {
			tb.Logf("QEMU: %s\nconsole (%v): %s", &stderr, err, console)
		}
	})
	return a
}

func awaitBoot(tb testing.TB, a *Agents) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), bootPatience)
	defer cancel()
	boot, err := a.Await(ctx, "a")
	if err != nil {
		tb.Fatal(err)
	}
	return boot
}

// run runs a script in the guest.
func run(tb testing.TB, a *Agents, script string) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), bootPatience)
	defer cancel()
	var out bytes.Buffer
	code, err := a.Exec(ctx, "a", vm.Process{Args: []string{"/bin/sh", "-c", script}}, vm.Streams{Stdout: &out, Stderr: &out})
	if err != nil || code != 0 {
		tb.Fatalf("%s: %d, %v: %s", script, code, err, &out)
	}
	return strings.TrimSpace(out.String())
}

func TestARealGuestIsFoundAgainOverHangupsAndReboots(t *testing.T) {
	a := bootTiny(t)
	first := awaitBoot(t, a)
	if got := run(t, a, "cat /proc/sys/kernel/random/boot_id"); got != first {
		t.Errorf("the agent says boot %s, the guest %s", first, got)
	}
	for range 10 { // as a daemon that is killed and starts anew
		a.Disconnect("a")
		a.Connect("a")
		began := time.Now()
		if again := awaitBoot(t, a); again != first {
			t.Fatalf("boot %s, then %s", first, again)
		}
		t.Logf("connected again in %s", time.Since(began))
	}
	// One that is gone in the midst of the guest's writing: what is left of it comes out later.
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := a.Exec(ctx, "a", vm.Process{Args: []string{"cat", "/dev/zero"}}, vm.Streams{Stdout: after(1<<20, func() {
			a.Disconnect("a")
		})})
		cancel()
		if !errdefs.IsUnavailable(err) {
			t.Fatal(err)
		}
		a.Connect("a")
		run(t, a, "true")
	}
	if n := run(t, a, "ps | grep -c '[c]at /dev/zero' || true"); n != "0" {
		t.Errorf("%s processes are left", n)
	}
	// The guest reboots, QEMU and its socket stay.
	_, err := a.Exec(t.Context(), "a", vm.Process{Args: []string{"reboot", "-f"}}, vm.Streams{})
	t.Logf("reboot: %v", err)
	if id := <-a.Reboots(); id != "a" {
		t.Errorf("a reboot of %s", id)
	}
	if second := awaitBoot(t, a); second == first {
		t.Error("the same boot")
	}
}

// after calls f once, when more than n bytes were written.
func after(n int, f func()) io.Writer { return &counted{n, f} }

type counted struct {
	left int
	f    func()
}

// Write implements io.Writer.
func (c *counted) Write(p []byte) (int, error) {
	if c.left -= len(p); c.left <= 0 && c.f != nil {
		c.f()
		c.f = nil
	}
	return len(p), nil
}

func TestAnIdleAgentDoesNothing(t *testing.T) {
	a := bootTiny(t)
	awaitBoot(t, a)
	// Not its CPU time: how much a wake-up takes is the host's to say. Counted in the guest, for a call more
	// would wake it; and until it is calm, since the Go runtime gives memory back in small steps for a while.
	const count = `wakeUps() { cat /proc/$(pidof vmlet-agent)/task/*/status | awk '/ctxt_switches/ { n += $2 } END { print n }'; }
		for try in 1 2 3 4 5 6 7 8 9; do
			before=$(wakeUps); sleep 10; n=$(($(wakeUps) - before))
			[ $n -gt 30 ] || break
		done
		echo $n`
	n, err := strconv.Atoi(run(t, a, count))
	if err != nil || n > 30 {
		t.Errorf("%d wake-ups in 10 s, and no fewer for a while, %v", n, err)
	}
	t.Logf("%d wake-ups; %s", n, run(t, a, `grep -E "VmRSS|RssAnon|Threads" /proc/$(pidof vmlet-agent)/status; cat /proc/loadavg`))
}

func BenchmarkRealGuestInfo(b *testing.B) {
	a := bootTiny(b)
	awaitBoot(b, a)
	for b.Loop() {
		if _, err := a.Info(b.Context(), "a"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRealGuestExecTrue(b *testing.B) {
	a := bootTiny(b)
	awaitBoot(b, a)
	for b.Loop() {
		if _, err := a.Exec(b.Context(), "a", vm.Process{Args: []string{"true"}}, vm.Streams{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRealGuestOutput(b *testing.B) {
	const size = 16 << 20
	a := bootTiny(b)
	awaitBoot(b, a)
	b.SetBytes(size)
	for b.Loop() {
		if _, err := a.Exec(b.Context(), "a", vm.Process{Args: []string{"head", "-c", strconv.Itoa(size), "/dev/zero"}}, vm.Streams{}); err != nil {
			b.Fatal(err)
		}
	}
}
