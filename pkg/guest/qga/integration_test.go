// SPDX-License-Identifier: Apache-2.0

//go:build integration

package qga

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// These tests boot the tiny guest image in a QEMU of their own, software-emulated, and
// speak to the agent in it. They need no root.

// bootPatience is how long a guest may take to boot on a busy host.
const bootPatience = 2 * time.Minute

// qemu is a guest and a Transport to its agent. "guest" is its sandbox ID; of all others
// no agent answers.
type qemu struct {
	cmd  *exec.Cmd
	dir  string
	mu   sync.Mutex
	conn net.Conn
	read *bufio.Reader
	sync int
}

func boot(tb testing.TB) *qemu {
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
	root := filepath.Join(dir, "root.qcow2")
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", image, root).CombinedOutput(); err != nil {
		tb.Fatalf("%v: %s", err, out)
	}
	q := &qemu{dir: dir, cmd: exec.Command("qemu-system-x86_64",
		"-machine", "q35,accel=tcg", "-cpu", "max", "-m", "128", "-nodefaults", "-display", "none",
		"-serial", "file:"+filepath.Join(dir, "console"),
		"-drive", "if=virtio,format=qcow2,file="+root,
		"-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
		"-chardev", "socket,id=agent,server=on,wait=off,path="+filepath.Join(dir, "agent"),
		"-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0")}
	var stderr bytes.Buffer
	q.cmd.Stderr = &stderr
	if err := q.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		q.hangUp(tb)
		if err := q.cmd.Process.Kill(); err == nil {
			tb.Logf("QEMU was killed: %v", q.cmd.Wait())
		}
		if console, err := os.ReadFile(filepath.Join(dir, "console")); tb.Failed() {
			tb.Logf("QEMU: %s\nconsole (%v): %s", &stderr, err, console)
		}
	})
	return q
}

func (q *qemu) hangUp(tb testing.TB) {
	tb.Helper()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.conn == nil {
		return
	}
	if err := q.conn.Close(); err != nil {
		tb.Error(err)
	}
	q.conn = nil
}

// Command implements Transport, as libvirt does it: a fresh connection, and one whose
// last command got no answer, is brought in step first.
func (q *qemu) Command(ctx context.Context, id string, cmd []byte) ([]byte, error) {
	if id != "guest" {
		return nil, fmt.Errorf("no agent: %w", errdefs.ErrUnavailable)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.conn == nil {
		conn, err := net.Dial("unix", filepath.Join(q.dir, "agent"))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
		}
		q.conn, q.read, q.sync = conn, bufio.NewReader(conn), 0
	}
	deadline, _ := ctx.Deadline()
	if err := q.conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	answer, err := q.ask(cmd)
	if err != nil {
		err = errors.Join(err, q.conn.Close())
		q.conn = nil
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
	}
	return answer, nil
}

func (q *qemu) ask(cmd []byte) ([]byte, error) {
	if q.sync == 0 {
		q.sync = int(time.Now().UnixNano() & 0xffffff)
		if _, err := fmt.Fprintf(q.conn, "\xff{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":%d}}\n", q.sync); err != nil {
			return nil, err
		}
		for want := fmt.Sprintf("{\"return\": %d}\n", q.sync); ; {
			line, err := q.read.ReadString('\n')
			if err != nil {
				return nil, err
			}
			if strings.HasSuffix(line, want) {
				break
			}
		}
	}
	if _, err := q.conn.Write(append(cmd, '\n')); err != nil {
		return nil, err
	}
	return q.read.ReadBytes('\n')
}

func TestARealAgentKeepsTheContract(t *testing.T) {
	q := boot(t)
	a := New(q)
	ctx, cancel := context.WithTimeout(t.Context(), bootPatience)
	defer cancel()
	began := time.Now()
	res, err := a.Exec(ctx, "guest", vm.ExecRequest{Command: []string{"cat", "/proc/uptime"}, MaxOutput: 100})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the first command of a guest that boots answered after %v, the guest's uptime is %s", time.Since(began), res.Stdout)

	runContract(t, func(*testing.T) guests {
		return guests{Agent: a, Answering: "guest", Silent: "silent", Dir: "/tmp"}
	})

	t.Run("a command that is killed is not found by pgrep", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Exec(ctx, "guest", vm.ExecRequest{Command: []string{"sleep", "4321"}}); !errdefs.IsDeadlineExceeded(err) {
			t.Errorf("got %v", err)
		}
		res, err := a.Exec(t.Context(), "guest", vm.ExecRequest{Command: []string{"pgrep", "sleep"}, MaxOutput: 100})
		if err != nil || len(res.Stdout) != 0 {
			t.Errorf("got %s, %v", res.Stdout, err)
		}
	})
	t.Run("no file is left in the guest", func(t *testing.T) {
		res, err := a.Exec(t.Context(), "guest", vm.ExecRequest{Command: []string{"sh", "-c", "sleep 1; ls /tmp /run | grep vmlet-"}, MaxOutput: 1000})
		// The three of the command itself: .dd comes after its end.
		if files := strings.Fields(string(res.Stdout)); err != nil || len(files) != 2 {
			t.Errorf("got %q, %v", files, err)
		}
	})
	t.Run("a command that fills the guest's temporary files ends", func(t *testing.T) {
		res, err := a.Exec(t.Context(), "guest", vm.ExecRequest{Command: []string{"yes"}, MaxOutput: 1000})
		if err != nil || res.ExitCode == 0 || len(res.Stdout) != 1000 {
			t.Errorf("code %d, %d bytes, %v", res.ExitCode, len(res.Stdout), err)
		}
	})
	t.Run("shutdown powers the guest off", func(t *testing.T) {
		began := time.Now()
		if err := a.Shutdown(t.Context(), "guest"); err != nil {
			t.Fatal(err)
		}
		asked := time.Since(began)
		if err := q.cmd.Wait(); err != nil {
			t.Errorf("QEMU ended with %v", err)
		}
		t.Logf("asked in %v, off after %v", asked, time.Since(began))
		if _, err := a.Exec(ctx, "guest", vm.ExecRequest{}); err == nil {
			t.Error("a guest that is off runs commands")
		}
	})
}

func BenchmarkExec(b *testing.B) {
	q := boot(b)
	a := New(q)
	ctx, cancel := context.WithTimeout(b.Context(), bootPatience)
	defer cancel()
	if err := a.Await(ctx, "guest"); err != nil {
		b.Fatal(err)
	}
	for name, run := range map[string]func() error{
		"ping": func() error { return a.ping(ctx, "guest") },
		"bare guest-exec": func() error {
			pid, err := a.start(ctx, "guest", execArguments{Path: "/bin/true", Arg: []string{}, CaptureOutput: true})
			if err == nil {
				_, err = a.wait(ctx, "guest", pid)
			}
			return err
		},
		"Exec true": func() error {
			_, err := a.Exec(ctx, "guest", vm.ExecRequest{Command: []string{"/bin/true"}, MaxOutput: 100})
			return err
		},
		"Exec echo": func() error {
			_, err := a.Exec(ctx, "guest", vm.ExecRequest{Command: []string{"/bin/echo", "hello"}, MaxOutput: 100})
			return err
		},
		"Exec 4 MiB": func() error {
			_, err := a.Exec(ctx, "guest", vm.ExecRequest{Command: []string{"head", "-c", "4194304", "/dev/zero"}, MaxOutput: 4 << 20})
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			var times []time.Duration
			for b.Loop() {
				began := time.Now()
				if err := run(); err != nil {
					b.Fatal(err)
				}
				times = append(times, time.Since(began))
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}
