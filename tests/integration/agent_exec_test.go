// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// TestExecByTheAgent runs commands in one guest in every way that clients have.
func TestExecByTheAgent(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{Name: "exec"})
	boot := pod.WaitReady()
	for name, test := range map[string]func(*testing.T, *harness.Node, *harness.Running){
		"exit codes":              testExitCodes,
		"50 at once":              testFiftyAtOnce,
		"streams":                 testExecStreams,
		"terminal":                testExecTerminal,
		"16 MB":                   testExecLimit,
		"timeout":                 testExecTimeout,
		"a client that goes away": testExecDisconnect,
		"failures":                testExecFailures,
	} {
		t.Run(name, func(t *testing.T) { test(t, node, pod) })
	}
	t.Run("in the guest", func(t *testing.T) {
		host, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			t.Fatal(err)
		}
		if got := pod.Exec("cat", "/proc/sys/kernel/random/boot_id"); got != boot || got == strings.TrimSpace(string(host)) {
			t.Errorf("boot ID %s; the guest's is %s, the host's %s", got, boot, host)
		}
		if got := pod.Exec("uname", "-r"); !strings.Contains(got, "-cloud-amd64") {
			t.Errorf("kernel %s is not the guest's", got)
		}
	})
}

func testExitCodes(t *testing.T, node *harness.Node, pod *harness.Running) {
	for code := range 256 {
		res, err := node.ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{
			ContainerId: pod.ContainerID, Cmd: []string{"sh", "-c", fmt.Sprint("exit ", code)}, Timeout: 60,
		})
		if err != nil || int(res.GetExitCode()) != code {
			t.Errorf("exit %d: got %d, %v", code, res.GetExitCode(), err)
		}
	}
	res, err := node.ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{
		ContainerId: pod.ContainerID, Cmd: []string{"sh", "-c", "kill -KILL $$"}, Timeout: 60,
	})
	if err != nil || res.GetExitCode() != 137 {
		t.Errorf("a killed command: exit code %d, %v; want 137", res.GetExitCode(), err)
	}
}

// testFiftyAtOnce keeps fifty commands in the guest until all of them run.
func testFiftyAtOnce(t *testing.T, _ *harness.Node, pod *harness.Running) {
	const n = 50
	pod.Exec("mkdir", "-p", "/tmp/fifty")
	group, ctx := errgroup.WithContext(t.Context())
	for i := range n {
		group.Go(func() error {
			var out bytes.Buffer
			script := fmt.Sprintf("touch /tmp/fifty/%[1]d; until [ -e /tmp/fifty/go ]; do sleep 1; done; echo %[1]d; exit %[1]d", i)
			code, err := pod.ExecStream(ctx, harness.Streams{Stdout: &out}, "sh", "-c", script)
			if err != nil {
				return fmt.Errorf("command %d: %w", i, err)
			}
			if want := fmt.Sprintln(i); code != i || out.String() != want {
				return fmt.Errorf("command %d: exit code %d, output %q", i, code, &out)
			}
			return nil
		})
	}
	group.Go(func() error {
		for range time.Tick(300 * time.Millisecond) {
			res, err := pod.TryExec(ctx, "sh", "-c", "ls /tmp/fifty | wc -l")
			if err != nil {
				return err
			}
			if strings.TrimSpace(res) == fmt.Sprint(n) {
				break
			}
		}
		_, err := pod.TryExec(ctx, "touch", "/tmp/fifty/go")
		return err
	})
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

func testExecStreams(t *testing.T, _ *harness.Node, pod *harness.Running) {
	var out, errs bytes.Buffer
	input := bytes.Repeat([]byte("any byte \x00\xff\r\n"), 100<<10)
	code, err := pod.ExecStream(t.Context(), harness.Streams{Stdin: bytes.NewReader(input), Stdout: &out, Stderr: &errs},
		"sh", "-c", "cat; echo 'the end' >&2; exit 9")
	if err != nil || code != 9 {
		t.Errorf("exit code %d, %v; want 9", code, err)
	}
	if !bytes.Equal(out.Bytes(), input) {
		t.Errorf("%d bytes came back of %d, or other ones", out.Len(), len(input))
	}
	if errs.String() != "the end\n" {
		t.Errorf("stderr: %q", &errs)
	}
}

func testExecTerminal(t *testing.T, node *harness.Node, pod *harness.Running) {
	keyboard, screen := newKeyboard(), &screen{}
	session, err := pod.StartExec(t.Context(), harness.Streams{Stdin: keyboard, Stdout: screen, TTY: true}, "sh")
	if err != nil {
		t.Fatal(err)
	}
	defer session.Disconnect()
	if err := session.Resize(132, 50); err != nil {
		t.Fatal(err)
	}
	node.Eventually(time.Minute, func() error {
		keyboard.Type("stty size\n")
		time.Sleep(200 * time.Millisecond)
		return screen.has("50 132")
	})
	// ^C ends what runs in front, not the shell.
	keyboard.Type("sleep 999\n")
	time.Sleep(500 * time.Millisecond)
	keyboard.Type("\x03")
	keyboard.Type("exit $((10+1))\n")
	code, err := session.Wait()
	if err != nil || code != 11 {
		t.Errorf("exit code %d, %v; want 11; the screen: %q", code, err, screen)
	}
}

// testExecLimit: "the runtime should cap the output at 16 MB and discard the rest" (CRI,
// ExecSyncResponse), and the whole answer has to fit into a message of that size.
func testExecLimit(t *testing.T, node *harness.Node, pod *harness.Running) {
	const least, most = 16_000_000, 16 << 20
	res, err := node.ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{
		ContainerId: pod.ContainerID, Cmd: []string{"dd", "if=/dev/zero", "bs=1M", "count=20"}, Timeout: 120,
	})
	if err != nil || res.GetExitCode() != 0 {
		t.Fatalf("exit code %d, %v", res.GetExitCode(), err)
	}
	if got := len(res.GetStdout()); got < least || got > most {
		t.Errorf("%d bytes of stdout, want the first 16 MB", got)
	}
}

func testExecTimeout(t *testing.T, node *harness.Node, pod *harness.Running) {
	begin := time.Now()
	_, err := node.ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{
		ContainerId: pod.ContainerID, Cmd: []string{"sh", "-c", "(sleep 7771 & sleep 7772) & trap '' TERM HUP; sleep 7773"}, Timeout: 1,
	})
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("error: %v", err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %s, with a timeout of 1 s", took)
	}
	nobodySleeps(t, node, pod, "sleep 777")
}

func testExecDisconnect(t *testing.T, node *harness.Node, pod *harness.Running) {
	screen := &screen{}
	session, err := pod.StartExec(t.Context(), harness.Streams{Stdout: screen}, "sh", "-c", "echo here; sleep 8881 & sleep 8882")
	if err != nil {
		t.Fatal(err)
	}
	node.Eventually(time.Minute, func() error { return screen.has("here") })
	session.Disconnect()
	nobodySleeps(t, node, pod, "sleep 888")
}

// nobodySleeps waits until no process of the guest has that on its command line.
func nobodySleeps(t *testing.T, node *harness.Node, pod *harness.Running, what string) {
	t.Helper()
	node.Eventually(10*time.Second, func() error {
		if left := pod.Exec("sh", "-c", "ps -o args | grep '^"+what+"' || true"); left != "" {
			return fmt.Errorf("still running: %s", left)
		}
		return nil
	})
}

// testExecFailures: as a shell has it, 127 for what is not there and 126 for what is no
// program.
func testExecFailures(t *testing.T, _ *harness.Node, pod *harness.Running) {
	for command, want := range map[string]int{"no-such-program": 127, "/etc/passwd": 126} {
		var errs bytes.Buffer
		code, err := pod.ExecStream(t.Context(), harness.Streams{Stdout: &bytes.Buffer{}, Stderr: &errs}, command)
		if code != want || err != nil || !strings.Contains(errs.String(), command) {
			t.Errorf("%s: exit code %d, %v, stderr %q; want %d", command, code, err, &errs, want)
		}
	}
}
