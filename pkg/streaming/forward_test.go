// SPDX-License-Identifier: Apache-2.0

package streaming

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/websocket"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
)

// echo answers what a client said when it has said all of it.
func echo(t *testing.T) func(context.Context, uint16, io.ReadWriteCloser) error {
	return func(_ context.Context, port uint16, stream io.ReadWriteCloser) error {
		said, err := io.ReadAll(stream)
		if err == nil {
			write(t, stream, fmt.Sprintf("%d heard %s", port, said))
			err = stream.Close()
		}
		return err
	}
}

func TestManyConnectionsThroughOnePortForward(t *testing.T) {
	s, _ := serve(t, Config{}, cases{forward: echo(t)})
	conn, err := connect(t, must(t, func() (string, error) { return s.PortForward("p", nil) }), portforward.ProtocolV1Name, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // the server may have been first
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			data, trouble := forward(t, conn, i, fmt.Sprint(8000+i))
			said := strings.Repeat(fmt.Sprint("message ", i), 1000)
			write(t, data, said)
			shut(data) // the half-close, after which the answer comes
			if got := readAll(t, data); got != fmt.Sprintf("%d heard %s", 8000+i, said) {
				t.Errorf("connection %d got %d bytes", i, len(got))
			}
			if got := readAll(t, trouble); got != "" {
				t.Errorf("connection %d: %s", i, got)
			}
		})
	}
	all.Wait()
}

func TestTheGuestMayEndItsDirectionFirst(t *testing.T) {
	heard := make(chan string, 1)
	s, _ := serve(t, Config{}, cases{forward: func(_ context.Context, _ uint16, stream io.ReadWriteCloser) error {
		write(t, stream, "greeting")
		if err := stream.Close(); err != nil {
			return err
		}
		heard <- readAll(t, stream)
		return nil
	}})
	conn, err := connect(t, must(t, func() (string, error) { return s.PortForward("p", nil) }), portforward.ProtocolV1Name, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // the server may have been first
	data, _ := forward(t, conn, 1, "80")
	if got := readAll(t, data); got != "greeting" {
		t.Errorf("got %q", got)
	}
	write(t, data, "still here")
	shut(data)
	if got := <-heard; got != "still here" {
		t.Errorf("the guest heard %q", got)
	}
}

func TestTheClientReadsWhyAPortCouldNotBeReached(t *testing.T) {
	s, _ := serve(t, Config{}, cases{forward: func(_ context.Context, port uint16, _ io.ReadWriteCloser) error {
		return fmt.Errorf("nothing listens on port %d of the guest", port)
	}})
	conn, err := connect(t, must(t, func() (string, error) { return s.PortForward("p", nil) }), portforward.ProtocolV1Name, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // the server may have been first
	_, trouble := forward(t, conn, 1, "81")
	if got := readAll(t, trouble); !strings.Contains(got, "nothing listens on port 81 of the guest") {
		t.Errorf("got %q", got)
	}
	s.svc = cases{forward: echo(t)} // one that failed ends no other
	data, _ := forward(t, conn, 2, "82")
	shut(data)
	if got := readAll(t, data); got != "82 heard " {
		t.Errorf("got %q", got)
	}
}

func TestAnErrorIsReadHoweverSoonItComes(t *testing.T) {
	s, _ := serve(t, Config{}, cases{forward: func(context.Context, uint16, io.ReadWriteCloser) error {
		return errors.New("refused")
	}})
	conn, err := connect(t, must(t, func() (string, error) { return s.PortForward("p", nil) }), portforward.ProtocolV1Name, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // the server may have been first
	for i := range 500 {
		data, trouble := forward(t, conn, i, "80")
		if got := readAll(t, trouble); !strings.Contains(got, "refused") {
			t.Fatalf("connection %d: %q", i, got)
		}
		if got := readAll(t, data); got != "" {
			t.Fatalf("connection %d: %q", i, got)
		}
	}
}

func TestAClientThatGoesEndsItsConnections(t *testing.T) {
	running, ended := make(chan struct{}), make(chan struct{})
	s, _ := serve(t, Config{}, cases{forward: func(ctx context.Context, _ uint16, _ io.ReadWriteCloser) error {
		close(running)
		<-ctx.Done()
		close(ended)
		return ctx.Err()
	}})
	conn, err := connect(t, must(t, func() (string, error) { return s.PortForward("p", nil) }), portforward.ProtocolV1Name, nil)
	if err != nil {
		t.Fatal(err)
	}
	forward(t, conn, 1, "80")
	closed(t, "the connection", running)
	shut(conn)
	closed(t, "the connection's end", ended)
}

func TestPortForwardByWebSocket(t *testing.T) {
	s, _ := serve(t, Config{}, cases{forward: func(_ context.Context, port uint16, stream io.ReadWriteCloser) error {
		said := make([]byte, 5)
		_, err := io.ReadFull(stream, said)
		write(t, stream, fmt.Sprintf("%d heard %s", port, said))
		return err
	}})
	c := dialWebSocket(t, must(t, func() (string, error) { return s.PortForward("p", []int32{8080}) }))
	for range 2 { // each channel begins with its port
		var b []byte
		if err := websocket.Message.Receive(c.Conn, &b); err != nil || len(b) != 3 || int(b[1])|int(b[2])<<8 != 8080 {
			t.Fatalf("got %v, %v", b, err)
		}
	}
	c.send(0, "hello")
	if got := c.all(); got[0] != "8080 heard hello" || got[1] != "" {
		t.Errorf("got %q", got)
	}
}
