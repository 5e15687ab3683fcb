// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
	"github.com/vmlet/vmlet/tests/harness"
)

// TestConsoleVNCAndScreenshot of three VMs: one that was made while all of it was off, one, and one with a command.
func TestConsoleVNCAndScreenshot(t *testing.T) {
	node := harness.StartNode(t, harness.WithConfig("defaults: {memory: 128MiB, video: none}"))
	blind := node.Run(harness.Pod{Name: "blind"})
	screenIsRefused(t, node, blind, codes.FailedPrecondition, "set defaults.vnc", "defaults.video")
	reloadWith(t, node, "video: none", "video: vga, vnc: true")
	screenIsRefused(t, node, blind, codes.FailedPrecondition, "create the VM anew", "defaults.video")
	blind.Remove()

	pod := node.Run(harness.Pod{Name: "seen"})
	worker := node.Run(harness.Pod{Name: "worker", Command: []string{"sh", "-c", "echo works; sleep 1000"}})
	pod.WaitReady()
	t.Run("screenshot", func(t *testing.T) { screenChanges(t, node, pod) })
	t.Run("VNC", func(t *testing.T) { screenByVNC(t, node, pod) })
	t.Run("console of a command", func(t *testing.T) { consoleBesideACommand(t, node, worker) })
	worker.Remove()
	t.Run("console by vmletctl", func(t *testing.T) { consoleOnATerminal(t, node, pod) })
	t.Run("console", func(t *testing.T) { consoleThroughItAll(t, node, pod) })
}

func screenIsRefused(t *testing.T, node *harness.Node, pod *harness.Running, code codes.Code, vnc, screenshot string) {
	t.Helper()
	_, err := node.VMs.Screenshot(t.Context(), &vmletv1.ScreenshotRequest{Vm: pod.SandboxID})
	if status.Code(err) != code || !strings.Contains(err.Error(), screenshot) {
		t.Errorf("screenshot: %v", err)
	}
	_, err = dialVNC(t.Context(), node, pod.SandboxID)
	if status.Code(err) != code || !strings.Contains(err.Error(), vnc) {
		t.Errorf("VNC: %v", err)
	}
}

// reloadWith has the daemon take another configuration over.
func reloadWith(t *testing.T, node *harness.Node, from, to string) {
	t.Helper()
	config, err := os.ReadFile(node.ConfigFile())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(node.ConfigFile(), bytes.Replace(config, []byte(from), []byte(to), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(node.PID(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	node.Eventually(time.Minute, func() error {
		if !strings.Contains(node.LogTail(50), "configuration reloaded") {
			return errNotYet
		}
		return nil
	})
}

// draw has the guest's kernel write on its screen.
func draw(pod *harness.Running, text string) { pod.Exec("sh", "-c", "echo '"+text+"' >/dev/tty1") }

func screenshot(t *testing.T, node *harness.Node, vm string) image.Image {
	t.Helper()
	resp, err := node.VMs.Screenshot(t.Context(), &vmletv1.ScreenshotRequest{Vm: vm})
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(resp.GetPng()))
	if err != nil {
		t.Fatal(err)
	}
	if size := img.Bounds().Size(); size.X != int(resp.GetWidth()) || size.Y != int(resp.GetHeight()) {
		t.Errorf("a picture of %v is told as %dx%d", size, resp.GetWidth(), resp.GetHeight())
	}
	return img
}

// lit is how many pixels of a picture are not black.
func lit(img image.Image) (n int) {
	for y := range img.Bounds().Dy() {
		for x := range img.Bounds().Dx() {
			if r, g, b, _ := img.At(x, y).RGBA(); r+g+b > 0 {
				n++
			}
		}
	}
	return n
}

// screenChanges: the picture is not blank, and shows what the guest writes.
func screenChanges(t *testing.T, node *harness.Node, pod *harness.Running) {
	before := lit(screenshot(t, node, "test/seen"))
	draw(pod, strings.Repeat("M", 60))
	after := lit(screenshot(t, node, pod.SandboxID))
	if before == 0 || after < before+60*20 { // an M has more
		t.Errorf("%d pixels were lit, and %d are", before, after)
	}
	if left := harness.Virsh(t, "domblklist", pod.DomainName()); left == "" {
		t.Error("the domain does not answer any more")
	}
}

// rfb is the client's side of VNC (RFC 6143).
type rfb struct {
	t             *testing.T
	stream        vmletv1.VMService_VNCClient
	left          []byte
	width, height int
}

// dialVNC returns when vmlet has connected.
func dialVNC(ctx context.Context, node *harness.Node, vm string) (vmletv1.VMService_VNCClient, error) {
	stream, err := node.VMs.VNC(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&vmletv1.VNCRequest{Vm: vm}); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	_, err = stream.Recv()
	return stream, err
}

func (r *rfb) read(n int) []byte {
	r.t.Helper()
	for len(r.left) < n {
		msg, err := r.stream.Recv()
		if err != nil {
			r.t.Fatal(err)
		}
		r.left = append(r.left, msg.GetData()...)
	}
	b := r.left[:n:n]
	r.left = r.left[n:]
	return b
}

func (r *rfb) write(b ...byte) {
	r.t.Helper()
	if err := r.stream.Send(&vmletv1.VNCRequest{Data: b}); err != nil {
		r.t.Fatal(err)
	}
}

// shake is the handshake, without a password.
func (r *rfb) shake() {
	r.t.Helper()
	version := r.read(12)
	r.write(version...)
	kinds := r.read(int(r.read(1)[0]))
	if string(version) != "RFB 003.008\n" || !bytes.Equal(kinds, []byte{1}) {
		r.t.Fatalf("%q offers the securities %v", version, kinds)
	}
	r.write(1)
	if result := r.read(4); !bytes.Equal(result, make([]byte, 4)) {
		r.t.Fatalf("result %v", result)
	}
	r.write(1) // others may be there
	server := r.read(24)
	r.width, r.height = int(binary.BigEndian.Uint16(server)), int(binary.BigEndian.Uint16(server[2:]))
	r.read(int(binary.BigEndian.Uint32(server[20:])))
}

// lit is how many bytes of the screen, as it is now, are not zero.
func (r *rfb) lit() (n int) {
	r.t.Helper()
	request := []byte{3, 0, 0, 0, 0, 0}
	request = binary.BigEndian.AppendUint16(request, uint16(r.width))
	r.write(binary.BigEndian.AppendUint16(request, uint16(r.height))...)
	for kind := r.read(1)[0]; kind != 0; kind = r.read(1)[0] {
		r.t.Fatalf("message %d", kind)
	}
	for range binary.BigEndian.Uint16(r.read(3)[1:]) {
		head := r.read(12)
		w, h := int(binary.BigEndian.Uint16(head[4:])), int(binary.BigEndian.Uint16(head[6:]))
		if encoding := binary.BigEndian.Uint32(head[8:]); encoding != 0 {
			r.t.Fatalf("encoding %d", encoding)
		}
		for _, b := range r.read(w * h * 4) {
			if b != 0 {
				n++
			}
		}
	}
	return n
}

// screenByVNC: one sees it change by VNC, also while libvirtd is away, and nothing on the host listens.
func screenByVNC(t *testing.T, node *harness.Node, pod *harness.Running) {
	stream, err := dialVNC(t.Context(), node, pod.SandboxID)
	if err != nil {
		t.Fatal(err)
	}
	r := &rfb{t: t, stream: stream}
	r.shake()
	if size := screenshot(t, node, pod.SandboxID).Bounds().Size(); size.X != r.width || size.Y != r.height {
		t.Errorf("the screen has %v, by VNC %dx%d", size, r.width, r.height)
	}
	before := r.lit()
	harness.KillLibvirtd(t)
	draw(pod, strings.Repeat("W", 60))
	r.write(3, 0, 0, 0, 0, 0, 0, 0, 0, 0) // QEMU looks at the guest's screen when it is asked
	node.Eventually(time.Minute, func() error {
		if after := r.lit(); before == 0 || after < before+60*20 {
			return fmt.Errorf("%d bytes were lit, and %d are", before, after)
		}
		return nil
	})
	harness.StartLibvirtd(t)
	if err := stream.CloseSend(); err != nil {
		t.Error(err)
	}
	for err == nil {
		_, err = stream.Recv()
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("the call ended with %v", err)
	}
	if args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pod.QEMU())); err != nil || !bytes.Contains(args, []byte("\x00-vnc\x00none,")) {
		t.Errorf("QEMU's VNC server listens: %s, %v", bytes.ReplaceAll(args, []byte{0}, []byte{' '}), err)
	}
	if ports := listening(t, pod.QEMU()); len(ports) > 0 {
		t.Errorf("QEMU listens on TCP: %v", ports)
	}
	node.Eventually(time.Minute, func() error { // vmlet has found libvirt again
		_, err := node.VMs.Screenshot(t.Context(), &vmletv1.ScreenshotRequest{Vm: pod.SandboxID})
		return err
	})
}

// listening are the lines of procfs about the TCP sockets on which a process listens.
func listening(t *testing.T, pid int) (ports []string) {
	t.Helper()
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(fds) == 0 {
		t.Fatalf("process %d has no descriptors: %v", pid, err)
	}
	own := map[string]bool{}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil {
			own[to] = true
		}
	}
	for _, table := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			const state, inode, listen = 3, 9, "0A"
			if f := strings.Fields(line); len(f) > inode && f[state] == listen && own["socket:["+f[inode]+"]"] {
				ports = append(ports, line)
			}
		}
	}
	return ports
}

// client is a client of Console.
type client struct {
	t      *testing.T
	node   *harness.Node
	stream vmletv1.VMService_ConsoleClient
	screen screen
	taken  chan struct{}
	ended  chan *vmletv1.ConsoleEnded
	err    error // after ended
}

func openConsole(t *testing.T, node *harness.Node, req *vmletv1.ConsoleRequest) (*client, error) {
	t.Helper()
	stream, err := node.VMs.Console(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(req); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		return nil, err
	}
	c := &client{t: t, node: node, stream: stream, taken: make(chan struct{}), ended: make(chan *vmletv1.ConsoleEnded, 1)}
	go c.receive()
	return c, nil
}

func mustOpenConsole(t *testing.T, node *harness.Node, req *vmletv1.ConsoleRequest) *client {
	t.Helper()
	c, err := openConsole(t, node, req)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *client) receive() {
	defer close(c.ended)
	for {
		msg, err := c.stream.Recv()
		if err != nil {
			c.err = err
			return
		}
		if _, err := c.screen.Write(msg.GetOutput()); err != nil {
			c.err = err
		}
		if msg.GetTakenOver() != nil {
			close(c.taken)
		}
		if msg.GetEnded() != nil {
			c.ended <- msg.GetEnded()
		}
	}
}

// asks types a sum until the guest's shell has answered: one that boots may not listen yet.
func (c *client) asks(word string) {
	c.t.Helper()
	c.node.Eventually(time.Minute, func() error {
		if err := c.stream.Send(&vmletv1.ConsoleRequest{Input: []byte("\necho " + word + "-$((40+2))\n")}); err != nil {
			return err
		}
		time.Sleep(500 * time.Millisecond) // it is no use to type faster
		return c.screen.has(word + "-42")
	})
}

// consoleBesideACommand: its kernel is heard there, and not in the log.
func consoleBesideACommand(t *testing.T, node *harness.Node, worker *harness.Running) {
	worker.WaitLog("works")
	c := mustOpenConsole(t, node, &vmletv1.ConsoleRequest{Vm: worker.ContainerID, Write: true, ReplayBytes: 64 << 10})
	node.Eventually(time.Minute, func() error { return c.screen.has("READY") }) // said before
	c.asks("command")
	if log := worker.Log(); strings.Contains(log, "command-42") || strings.Contains(log, "READY") {
		t.Errorf("the log of the command has the console: %s", log)
	}
}

// consoleOnATerminal is vmletctl with a window of its own, which is afterwards as it was.
func consoleOnATerminal(t *testing.T, node *harness.Node, pod *harness.Running) {
	ours, theirs := terminal(t)
	was := termios(t, theirs)
	cmd := exec.CommandContext(t.Context(), harness.Bin("vmletctl"), "--address", node.Socket(), "console", "seen")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen := &screen{}
	go func() { _, _ = io.Copy(seen, ours) }() //nolint:errcheck // it ends with the terminal
	node.Eventually(time.Minute, func() error { return seen.has("Ctrl-] leaves it") })
	if now := termios(t, theirs); now.Lflag&unix.ECHO != 0 || now.Lflag&unix.ISIG != 0 {
		t.Error("the terminal is not the guest's")
	}
	node.Eventually(time.Minute, func() error {
		if _, err := ours.WriteString("\recho window-$((40+2))\r"); err != nil {
			return err
		}
		time.Sleep(500 * time.Millisecond)
		return seen.has("window-42")
	})
	if _, err := ours.WriteString("echo last-$((40+2))\r\x1d"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("vmletctl ended with %v: %s", err, seen)
	}
	if now := termios(t, theirs); *now != *was {
		t.Errorf("the terminal is left as %+v, was %+v", now, was)
	}
	pod.WaitLog("last-42") // though its user left at once
	if out, err := exec.CommandContext(t.Context(), harness.Bin("vmletctl"), "--address", node.Socket(), "screenshot", "seen", "-").Output(); err != nil || !bytes.HasPrefix(out, []byte("\x89PNG")) {
		t.Errorf("screenshot: %q, %v", out, err)
	}
}

// terminal is a terminal of one's own: the user's side, and the programs'.
func terminal(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ours.Close() }) //nolint:errcheck // nothing is lost
	if err := unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err = os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = theirs.Close() }) //nolint:errcheck // the same
	return ours, theirs
}

func termios(t *testing.T, f *os.File) *unix.Termios {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// consoleThroughItAll: watchers, a writer and the next, beside an attached client; a reboot, the death of vmlet, the end.
func consoleThroughItAll(t *testing.T, node *harness.Node, pod *harness.Running) {
	watcher := mustOpenConsole(t, node, &vmletv1.ConsoleRequest{Vm: "test/seen"})
	attached := &screen{}
	attach, err := pod.StartAttach(t.Context(), harness.Streams{Stdout: attached})
	if err != nil {
		t.Fatal(err)
	}
	defer attach.Disconnect()
	write := &vmletv1.ConsoleRequest{Vm: pod.SandboxID, Write: true}
	first := mustOpenConsole(t, node, write)
	first.asks("first")
	if _, err := openConsole(t, node, write); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "typing since 20") {
		t.Errorf("a second writer: %v", err)
	}
	second := mustOpenConsole(t, node, &vmletv1.ConsoleRequest{Vm: pod.SandboxID, Write: true, Force: true})
	<-first.taken
	second.asks("second")
	if _, err := reboot(t.Context(), node, pod.SandboxID, vmletv1.RebootMode_REBOOT_MODE_ACPI); err != nil {
		t.Fatal(err)
	}
	second.asks("rebooted")
	for _, s := range []*screen{&watcher.screen, &first.screen, attached} {
		for _, text := range []string{"second-42", "READY", "rebooted-42"} {
			node.Eventually(time.Minute, func() error { return s.has(text) })
		}
	}
	pod.WaitLog("rebooted-42")

	qemu := pod.QEMU()
	node.Kill9()
	for _, c := range []*client{watcher, first, second} {
		if <-c.ended; status.Code(c.err) != codes.Unavailable {
			t.Errorf("vmlet was killed, a client hears %v", c.err)
		}
	}
	node.Start()
	if now := pod.QEMU(); now != qemu {
		t.Errorf("QEMU was %d and is %d", qemu, now)
	}
	again := mustOpenConsole(t, node, &vmletv1.ConsoleRequest{Vm: pod.SandboxID, Write: true, ReplayBytes: 4096})
	if err := again.screen.has("rebooted-42"); err != nil {
		node.Eventually(time.Minute, func() error { return again.screen.has("rebooted-42") })
	}
	again.asks("again")
	if n := strings.Count(pod.Log(), "\nrebooted-42"); n == 0 || n > strings.Count(second.screen.String(), "\nrebooted-42") {
		t.Errorf("the log has %d lines of the answer, its client heard %q", n, second.screen.String())
	}
	stop(t, node, pod.ContainerID, 30)
	end := <-again.ended
	if end.GetReason() != "Completed" || end.GetExitCode() != 0 {
		t.Errorf("the end is told as %v, %v", end, again.err)
	}
	if log := node.LogTail(2000); !strings.Contains(log, `"a client types into the console"`) {
		t.Error("vmlet's log does not say that somebody typed")
	}
}
