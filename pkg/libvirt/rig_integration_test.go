// SPDX-License-Identifier: Apache-2.0

//go:build integration

package libvirt

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmlet/vmlet/pkg/vm"
)

// The integration tests need root, libvirt, and the tiny guest image, whose path is in
// VMLET_TEST_GUEST_IMAGE (default bin/tiny.qcow2). They start a libvirtd of their own
// unless VMLET_TEST_LIBVIRT_URI names one, with its folder of QEMU logs in
// VMLET_TEST_LIBVIRT_LOG_DIR; tests that restart libvirtd are then skipped.

const testOwner = "integration-test"

// patience is the time that anything may take on a busy machine under tcg.
const patience = 2 * time.Minute

var rig struct {
	uri, logDir string
	// dir is the folder of our own libvirtd, "" for a given one.
	dir string
	// work is where guests have their files; image is a copy of the guest image there.
	work, image string
}

func TestMain(m *testing.M) {
	code, err := func() (int, error) {
		tearDown, err := setUpRig()
		defer tearDown()
		if err != nil {
			return 1, err
		}
		return m.Run(), nil
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration rig:", err)
	}
	os.Exit(code)
}

func setUpRig() (tearDown func(), err error) {
	tearDown = func() {}
	// A short path: libvirt's sockets have to fit into 107 bytes.
	if rig.work, err = os.MkdirTemp("", "vmlv"); err != nil {
		return tearDown, err
	}
	tearDown = removeWork
	if err := os.Chmod(rig.work, 0o755); err != nil {
		return tearDown, err
	}
	image := os.Getenv("VMLET_TEST_GUEST_IMAGE")
	if image == "" {
		image = "../../bin/tiny.qcow2"
	}
	rig.image = filepath.Join(rig.work, "base.qcow2")
	if out, err := exec.Command("install", "-m", "0444", image, rig.image).CombinedOutput(); err != nil {
		return tearDown, fmt.Errorf("copy the guest image: %s", out)
	}
	if rig.uri = os.Getenv("VMLET_TEST_LIBVIRT_URI"); rig.uri != "" {
		rig.logDir = os.Getenv("VMLET_TEST_LIBVIRT_LOG_DIR")
		return tearDown, nil
	}
	rig.dir = filepath.Join(rig.work, "d")
	rig.logDir = filepath.Join(rig.dir, "log", "qemu")
	tearDown = func() {
		if out, err := libvirtd("stop"); err != nil {
			fmt.Fprintln(os.Stderr, "stop libvirtd:", out)
		}
		removeWork()
	}
	out, err := libvirtd("start")
	if err != nil {
		return tearDown, fmt.Errorf("start libvirtd: %s", out)
	}
	rig.uri = out
	return tearDown, nil
}

func removeWork() {
	if err := os.RemoveAll(rig.work); err != nil {
		fmt.Fprintln(os.Stderr, "integration rig:", err)
	}
}

// libvirtd runs build/libvirtd.sh on the rig's own libvirtd.
func libvirtd(command string) (string, error) {
	out, err := exec.Command("../../build/libvirtd.sh", command, rig.dir).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// testContext serves a test and its cleanup.
func testContext(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), patience)
	tb.Cleanup(cancel)
	return ctx
}

func newHypervisor(tb testing.TB, owner string) *Hypervisor {
	tb.Helper()
	h, err := New(testContext(tb), Config{
		URI: rig.uri, Owner: owner, LogDir: rig.logDir,
		ShareSocket: func(id string) string { return filepath.Join(rig.work, id[:8], "share.sock") },
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := h.Close(); err != nil {
			tb.Error(err)
		}
	})
	return h
}

// guest is a defined machine with the tiny image.
type guest struct {
	t   testing.TB
	h   *Hypervisor
	id  string
	dir string
	vm.Machine
	seen *recorder
}

func newGuest(tb testing.TB, h *Hypervisor, seen *recorder) *guest {
	tb.Helper()
	raw := make([]byte, 16)
	rand.Read(raw)
	id := hex.EncodeToString(raw)
	g := &guest{t: tb, h: h, id: id, dir: filepath.Join(rig.work, id[:8]), seen: seen}
	g.must(os.Mkdir(g.dir, 0o755))
	root := filepath.Join(g.dir, "root.qcow2")
	out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", rig.image, root).CombinedOutput()
	if err != nil {
		tb.Fatalf("make the overlay: %s", out)
	}
	g.Machine = vm.Machine{
		SandboxID: id, UUID: vm.UUIDFromID(id), Name: vm.DomainName(id), Owner: testOwner, Title: tb.Name(),
		Accel: vm.AccelTCG, MachineType: "q35", CPU: vm.MachineCPU{Count: 1, Mode: "maximum"}, Memory: 128 * vm.MiB,
		Disks: []vm.MachineDisk{{
			Path: root, Format: vm.FormatQCOW2, Bus: vm.BusVirtio, Boot: true, ErrorPolicy: "stop",
			Backing: []vm.BackingFile{{Path: rig.image, Format: vm.FormatQCOW2}},
		}},
		ConsoleSpool: filepath.Join(g.dir, "console.spool"), AgentChannel: true, RNG: true,
	}
	tb.Cleanup(g.remove)
	g.must(h.Define(testContext(tb), g.Machine))
	return g
}

func (g *guest) remove() {
	ctx := testContext(g.t)
	for _, step := range []func(context.Context, string) error{g.h.Destroy, g.h.Undefine} {
		if err := step(ctx, g.id); err != nil {
			g.t.Error(err)
		}
	}
}

// boot starts the guest and waits for READY on its console and for its agent.
func (g *guest) boot() {
	g.t.Helper()
	g.start()
	g.seen.wait(g.t, g.id, vm.EventAgentConnected)
	g.console("READY")
}

func (g *guest) start() {
	g.t.Helper()
	ctx := testContext(g.t)
	g.must(g.h.Start(ctx, g.id))
	g.must(g.h.Resume(ctx, g.id))
}

// console waits until the spool holds text. QEMU gives no event for it.
func (g *guest) console(text string) {
	g.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		spool, err := os.ReadFile(g.ConsoleSpool)
		if err == nil && bytes.Contains(spool, []byte(text)) {
			return
		}
	}
	spool, err := os.ReadFile(g.ConsoleSpool)
	g.t.Fatalf("the console never said %q, but %v:\n%s", text, err, spool)
}

// sh starts a shell command in the guest through its agent.
func (g *guest) sh(command string) {
	g.t.Helper()
	cmd, err := json.Marshal(map[string]any{
		"execute": "guest-exec", "arguments": map[string]any{"path": "/bin/sh", "arg": []string{"-c", command}},
	})
	g.must(err)
	_, err = g.h.Agent().Command(testContext(g.t), g.id, cmd)
	g.must(err)
}

func (g *guest) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *guest) pid() int {
	g.t.Helper()
	pid, err := g.h.PID(testContext(g.t), g.id)
	g.must(err)
	return pid
}
