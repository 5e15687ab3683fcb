// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kubelet

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vmlet/vmlet/tests/harness"
)

// echo answers each line of its input.
const echo = `apiVersion: v1
kind: Pod
metadata: {name: echo}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: vm
    image: IMAGE
    stdin: true
    command: [sh, -c, 'while read -r line; do echo "heard $line"; done; echo deaf']
`

// TestKubeletsServer: what kubectl reaches a VM by, without the API server between: kubelet asks vmlet for a URL and
// carries the streams.
func TestKubeletsServer(t *testing.T) {
	node := harness.StartNode(t)
	k := harness.StartKubelet(t, node)
	k.Apply("echo", echo)
	k.WaitReady("echo")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()

	t.Run("run", func(t *testing.T) { runByKubelet(t, k) })
	t.Run("exec connects the streams and tells the exit code", func(t *testing.T) { execByKubelet(ctx, t, k) })
	t.Run("exec carries a megabyte", func(t *testing.T) { megabyteByKubelet(ctx, t, k) })
	t.Run("exec with a terminal of a size", func(t *testing.T) { terminalByKubelet(ctx, t, k) })
	t.Run("attach, leave and come back", func(t *testing.T) { attachByKubelet(ctx, t, k) })
	t.Run("portForward", func(t *testing.T) { forwardByKubelet(ctx, t, k) })
	t.Run("who asks for no pod", func(t *testing.T) {
		if _, err := k.StartExec(ctx, "nobody", harness.Streams{Stdout: io.Discard}, "true"); err == nil {
			t.Error("exec in a pod that is not there")
		}
		if _, err := k.Run("nobody", "true"); err == nil || !strings.Contains(err.Error(), "404") {
			t.Errorf("run in a pod that is not there: %v", err)
		}
	})
}

func runByKubelet(t *testing.T, k *harness.Kubelet) {
	t.Helper()
	if out, err := k.Run("echo", "echo hello"); err != nil || out != "hello\n" {
		t.Errorf("run: %q, %v", out, err)
	}
	if _, err := k.Run("echo", "false"); err == nil || !strings.Contains(err.Error(), "500") {
		t.Errorf("a command that fails: %v", err)
	}
}

func execByKubelet(ctx context.Context, t *testing.T, k *harness.Kubelet) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	session, err := k.StartExec(ctx, "echo", harness.Streams{Stdin: strings.NewReader("from outside"), Stdout: &stdout, Stderr: &stderr},
		"sh", "-c", "cat; echo oh >&2; exit 7")
	if err != nil {
		t.Fatal(err)
	}
	defer session.Disconnect()
	code, err := session.Wait()
	if err != nil || code != 7 || stdout.String() != "from outside" || stderr.String() != "oh\n" {
		t.Errorf("%d, %v; stdout %q, stderr %q", code, err, &stdout, &stderr)
	}
}

func megabyteByKubelet(ctx context.Context, t *testing.T, k *harness.Kubelet) {
	t.Helper()
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	var back bytes.Buffer
	session, err := k.StartExec(ctx, "echo", harness.Streams{Stdin: bytes.NewReader(data), Stdout: &back}, "cat")
	if err != nil {
		t.Fatal(err)
	}
	defer session.Disconnect()
	if code, err := session.Wait(); err != nil || code != 0 || sha256.Sum256(back.Bytes()) != sha256.Sum256(data) {
		t.Errorf("%d, %v; %d of %d bytes came back", code, err, back.Len(), len(data))
	}
}

func terminalByKubelet(ctx context.Context, t *testing.T, k *harness.Kubelet) {
	t.Helper()
	out, screen := io.Pipe()
	keys, typed := io.Pipe()
	session, err := k.StartExec(ctx, "echo", harness.Streams{Stdin: keys, Stdout: screen, TTY: true}, "sh")
	if err != nil {
		t.Fatal(err)
	}
	defer session.Disconnect()
	if err := session.Resize(93, 31); err != nil {
		t.Fatal(err)
	}
	// The new size may be there later than the first question.
	go func() {
		_, _ = io.WriteString(typed, "until stty size | grep -q '31 93'; do sleep 0.1; done; echo si''ze is right; exit\n") //nolint:errcheck // what comes back tells
	}()
	seen := bufio.NewScanner(out)
	for seen.Scan() && !strings.Contains(seen.Text(), "size is right") {
		continue
	}
	if err := seen.Err(); err != nil {
		t.Error(err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }() //nolint:errcheck // the rest of the screen
	if code, err := session.Wait(); err != nil || code != 0 {
		t.Errorf("the shell ended with %d, %v", code, err)
	}
}

func attachByKubelet(ctx context.Context, t *testing.T, k *harness.Kubelet) {
	t.Helper()
	for _, word := range []string{"one", "two"} {
		keys, typed := io.Pipe()
		out, screen := io.Pipe()
		session, err := k.StartAttach(ctx, "echo", harness.Streams{Stdin: keys, Stdout: screen})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintln(typed, word); err != nil {
			t.Error(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || line != "heard "+word+"\n" {
			t.Errorf("%q, %v", line, err)
		}
		session.Disconnect()
	}
	if log := k.WaitLog("echo", "heard two"); strings.Contains(log, "deaf") {
		t.Errorf("a client that left took the input with it: %q", log)
	}
}

func forwardByKubelet(ctx context.Context, t *testing.T, k *harness.Kubelet) {
	t.Helper()
	forward, err := k.StartForward(ctx, "echo")
	if err != nil {
		t.Fatal(err)
	}
	defer forward.Close()
	conn, err := forward.Dial(80)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET /boot-id HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // read to its end
	page, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if boot, err := k.Run("echo", "cat /proc/sys/kernel/random/boot_id"); err != nil || string(page) != boot {
		t.Errorf("the port gives boot ID %q, the guest's is %q, %v", page, boot, err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	refused, err := forward.Dial(81)
	if err != nil {
		t.Fatal(err)
	}
	if err := refused.Err(); err == nil || !strings.Contains(err.Error(), "81") {
		t.Errorf("a port that nobody listens on: %v", err)
	}
}
