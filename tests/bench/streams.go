// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmlet/vmlet/pkg/crilog"
	"github.com/vmlet/vmlet/tests/harness"
)

const (
	// logLine is a line of a busy service's log, and logLines how many a command prints.
	logLine  = "2026-01-01T00:00:00Z GET /index.html 200 0.004s a line such as services write all day long, not too short"
	logLines = 100_000
	// forwardedBytes is what a connection carries.
	forwardedBytes = 16 << 20
	forwardedPort  = 7010

	attachedClients = 20
	stalledClients  = 5
)

// logThroughput has a command print as fast as its guest can, and looks how fast that is in
// the container's log, by the entries' own times; none may be missing.
func logThroughput(t *testing.T, n int) outcome {
	node := startNode(t)
	var values samples
	for i := range n {
		pod := node.Run(harness.Pod{
			Name:    fmt.Sprint("talker-", i),
			Command: []string{"sh", "-c", fmt.Sprintf("yes '%s' | head -n %d", logLine, logLines)},
		})
		pod.WaitExited()
		value, err := readLog(pod.LogPath())
		must(t, err)
		values = append(values, value)
		pod.Remove()
	}
	r := newResult("log_throughput", unitMBs, values, nil)
	r.note = fmt.Sprintf("%d lines of %d bytes, all there", logLines, len(logLine)+1)
	return outcome{results: []Result{r}}
}

// readLog returns the rate, in MB/s of output, at which the entries of a log came.
func readLog(path string) (float64, error) {
	log, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	var first, last time.Time
	var text []byte // of a line so far: one may come in pieces
	lines := 0
	for entry := range bytes.Lines(log) {
		e, err := crilog.Parse(bytes.TrimSuffix(entry, []byte("\n")))
		if err != nil {
			return 0, err
		}
		if first.IsZero() {
			first = e.Time
		}
		last = e.Time
		if text = append(text, e.Payload...); e.Partial {
			continue
		}
		if string(text) != logLine {
			return 0, fmt.Errorf("the log has a line %q", text)
		}
		text = text[:0]
		lines++
	}
	if lines != logLines {
		return 0, fmt.Errorf("the log has %d lines of %d", lines, logLines)
	}
	return float64(lines*(len(logLine)+1)) / 1e6 / last.Sub(first).Seconds(), nil
}

// portForwards fetches the same from the same server of the guest, through a port-forward
// and over the pod's network in turns.
func portForwards(t *testing.T, n int) outcome {
	node := startNode(t)
	pod := node.Run(harness.Pod{Name: "forward"})
	pod.WaitReady()
	pod.Exec("sh", "-c", fmt.Sprintf("nc -ll -p %d -e head -c %d /dev/zero </dev/null >/dev/null 2>&1 &", forwardedPort, forwardedBytes))
	forward, err := pod.StartForward(t.Context(), forwardedPort)
	must(t, err)
	defer forward.Close()
	direct := func() (io.ReadCloser, error) {
		return new(net.Dialer).DialContext(t.Context(), "tcp", net.JoinHostPort(pod.IP, strconv.Itoa(forwardedPort)))
	}
	forwarded := func() (io.ReadCloser, error) { return forward.Dial(forwardedPort) }
	var values, floor samples
	for range n {
		floor = append(floor, fetch(t, node, direct))
		values = append(values, fetch(t, node, forwarded))
	}
	r := newResult("portforward_throughput", unitMBs, values, floor)
	r.note = "floor: plain TCP to the guest"
	return outcome{results: []Result{r}}
}

// fetch reads all that a connection brings, and returns how fast, in MB/s. A server that does
// not listen yet is waited for.
func fetch(t *testing.T, node *harness.Node, dial func() (io.ReadCloser, error)) (rate float64) {
	t.Helper()
	node.Eventually(time.Minute, func() error {
		begin := time.Now()
		conn, err := dial()
		if err != nil {
			return err
		}
		got, err := io.Copy(io.Discard, conn)
		err = errors.Join(err, conn.Close())
		if err == nil && got != forwardedBytes {
			err = fmt.Errorf("%d bytes of %d came", got, forwardedBytes)
		}
		rate = float64(got) / 1e6 / time.Since(begin).Seconds()
		return err
	})
	return rate
}

// attachedMemory is the daemon's memory while a command prints to twenty attached clients,
// five of which do not read, beside what it was without them.
func attachedMemory(t *testing.T, n int) outcome {
	node := startNode(t)
	pod := node.Run(harness.Pod{
		Name:    "crowd",
		Command: []string{"sh", "-c", fmt.Sprintf("while :; do yes '%s' | head -n 5000; sleep 0.2; done", logLine)},
	})
	node.Eventually(2*time.Minute, func() error { return errIfShort(pod.LogPath(), 4<<20) })
	alone := residentMemory(t, node, n)
	gate := make(chan struct{})
	defer close(gate)
	heard := make([]counter, attachedClients-stalledClients)
	for i := range attachedClients {
		var out io.Writer = stalled{gate}
		if i < len(heard) {
			out = &heard[i]
		}
		session, err := pod.StartAttach(t.Context(), harness.Streams{Stdout: out})
		must(t, err)
		t.Cleanup(session.Disconnect)
	}
	size, err := fileSize(pod.LogPath())
	must(t, err)
	node.Eventually(5*time.Minute, func() error { return errIfShort(pod.LogPath(), size+16<<20) })
	for i := range heard {
		if heard[i].n.Load() < 6<<20 {
			t.Errorf("client %d has heard %d bytes only", i, heard[i].n.Load())
		}
	}
	r := newResult("attach_20_clients_rss", unitMiB, residentMemory(t, node, n), alone)
	r.note = fmt.Sprintf("%d of them stalled; floor: the daemon without them", stalledClients)
	return outcome{results: []Result{r}}
}

func fileSize(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func errIfShort(path string, want int64) error {
	size, err := fileSize(path)
	if err == nil && size < want {
		err = fmt.Errorf("%s has %d bytes, %d are awaited", path, size, want)
	}
	return err
}

// counter counts what is written.
type counter struct{ n atomic.Int64 }

func (c *counter) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return len(b), nil
}

// stalled takes nothing until its gate is closed.
type stalled struct{ gate <-chan struct{} }

func (s stalled) Write([]byte) (int, error) {
	<-s.gate
	return 0, io.ErrClosedPipe
}
