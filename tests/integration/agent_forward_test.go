// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vmlet/vmlet/tests/harness"
)

// servers are started in the guest: two pages on one address of its loopback only, as
// people debug them, what sends back all it gets, and what answers when it got all.
const servers = `httpd -h /run/www -p 127.0.0.1:7004
httpd -h /run/www -p '[::1]:7006'
for port in 7008 7010 7011 7012 7013 7014 7015 7016 7017; do nc -ll -p $port -e cat </dev/null >/dev/null 2>&1 & done
nc -ll -p 7009 -e sh -c 'cat >/dev/null; echo after the end' </dev/null >/dev/null 2>&1 &`

// TestPortForwardReachesTheGuestsLoopback over one connection with many streams.
func TestPortForwardReachesTheGuestsLoopback(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{Name: "forward"})
	boot := pod.WaitReady()
	pod.Exec("sh", "-c", servers)
	forward, err := pod.StartForward(t.Context(), 7004, 7006, 7008, 7009, 7010, 7011, 7012, 7013, 7014, 7015, 7016, 7017, 9)
	if err != nil {
		t.Fatal(err)
	}
	defer forward.Close()
	for _, port := range []int{7008, 7010, 7011, 7012, 7013, 7014, 7015, 7016, 7017} {
		node.Eventually(time.Minute, func() error { return echo(forward, port, []byte("listening")) })
	}

	t.Run("both families of the loopback", func(t *testing.T) {
		for _, port := range []int{7004, 7006} {
			got, err := converse(forward, port, []byte("GET /boot-id HTTP/1.0\r\n\r\n"))
			if err != nil || !bytes.Contains(got, []byte(boot)) {
				t.Errorf("port %d: %q, %v", port, got, err)
			}
		}
	})
	t.Run("many streams", func(t *testing.T) {
		var group errgroup.Group
		for i := range 32 {
			group.Go(func() error {
				// nc lets few wait to be accepted, and a slow guest's resets who waits too long.
				return echo(forward, 7010+i%8, bytes.Repeat(fmt.Appendf(nil, "stream %d ", i), 10<<10))
			})
		}
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
	})
	t.Run("half-close", func(t *testing.T) {
		got, err := converse(forward, 7009, []byte("anything"))
		if err != nil || string(got) != "after the end\n" {
			t.Errorf("%q, %v", got, err)
		}
	})
	t.Run("a port where nobody listens", func(t *testing.T) {
		conn, err := forward.Dial(9)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Err(); err == nil || !strings.Contains(err.Error(), "9") {
			t.Errorf("error: %v", err)
		}
		if err := echo(forward, 7008, []byte("still there")); err != nil {
			t.Errorf("the other streams: %v", err)
		}
	})
}

// converse sends text, closes its half, and returns what comes back until the other half
// is closed too.
func converse(forward *harness.Forward, port int, text []byte) ([]byte, error) {
	conn, err := forward.Dial(port)
	if err != nil {
		return nil, err
	}
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(text)
		if err == nil {
			err = conn.Close()
		}
		sent <- err
	}()
	got, err := io.ReadAll(conn)
	return got, errors.Join(err, <-sent, conn.Err())
}

// echo sends text and wants it back.
func echo(forward *harness.Forward, port int, text []byte) error {
	got, err := converse(forward, port, text)
	if err == nil && !bytes.Equal(got, text) {
		return fmt.Errorf("port %d: %d bytes came back of %d", port, len(got), len(text))
	}
	return err
}
