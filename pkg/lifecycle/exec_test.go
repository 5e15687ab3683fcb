// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestExecTakesPartInTheContainersCommandOrIsRootOnTheMachine(t *testing.T) {
	w := newWorld(t)
	var got vm.Process
	w.guest.SetExec(func(_ context.Context, p vm.Process, s vm.Streams) (int32, error) {
		got = p
		_, err := io.WriteString(s.Stdout, "out")
		_, err2 := io.WriteString(s.Stderr, "error")
		return 3, errors.Join(err, err2)
	})
	run := func(c string) {
		t.Helper()
		res, err := w.svc.Exec(t.Context(), c, vm.ExecRequest{Command: []string{"id", "-u"}, MaxOutput: 4})
		if err != nil || res.ExitCode != 3 || string(res.Stdout) != "out" || string(res.Stderr) != "erro" {
			t.Errorf("result = %+v, %v", res, err)
		}
	}
	spec := commandSpec()
	_, c := w.started("a", spec)
	run(c)
	if !slices.Equal(got.Args, []string{"id", "-u"}) || got.Namespace != c || got.Security != nil && got.Security.User != "7" ||
		!slices.Equal(got.Env, spec.Env) || got.WorkingDir != "/srv" || got.Security == nil {
		t.Errorf("beside a command: %+v", got)
	}
	spec = containerSpec(0)
	spec.Env, spec.WorkingDir = []vm.EnvVar{{Name: "A", Value: "b"}}, "/srv"
	_, c = w.started("b", spec)
	run(c)
	if got.Namespace != "" || got.Security != nil || len(got.Env) != 0 || got.WorkingDir != "" {
		t.Errorf("on a machine: %+v", got)
	}
	spec.Security = &vm.Security{User: "1000"}
	_, c = w.started("c", spec)
	run(c)
	if got.Security == nil || got.Security.User != "1000" {
		t.Errorf("on a machine with a user: %+v", got)
	}
}

func TestAttachIsTheCommandOrElseTheConsole(t *testing.T) {
	w := newWorld(t)
	spec := commandSpec()
	spec.Stdin = true
	sb, c := w.started("a", spec)
	w.mainRuns(sb, c)
	var out bytes.Buffer
	attached := make(chan error, 1)
	go func() {
		attached <- w.svc.Attach(t.Context(), c, vm.Streams{Stdin: strings.NewReader("go\n"), Stdout: &out})
	}()
	w.await("input", func() bool { return w.guest.Input(sb) == "go\n" })
	w.streams.of(c) <- "working\n"
	close(w.streams.of(c))
	if err := <-attached; err != nil || out.String() != "working\n" {
		t.Errorf("output = %q, %v", &out, err)
	}

	sb, c = w.running("b")
	device, err := w.hypervisor.ConsoleDevice(t.Context(), sb)
	if err != nil {
		t.Fatal(err)
	}
	typed, typing := io.Pipe()
	go func() { attached <- w.svc.Attach(t.Context(), c, vm.Streams{Stdin: typed, Stdout: io.Discard}) }()
	if _, err := io.WriteString(typing, "root\n"); err != nil {
		t.Fatal(err)
	}
	if err := typing.Close(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); w.streams.typedInto(device) != "root\n"; {
		if time.Now().After(deadline) {
			t.Fatalf("typed %q", w.streams.typedInto(device))
		}
		time.Sleep(time.Millisecond) // the input's goroutine has no event
	}
	close(w.streams.of(c))
	if err := <-attached; err != nil {
		t.Error(err)
	}
}

func TestAttachSaysWhatIsNotThere(t *testing.T) {
	w := newWorld(t)
	_, c := w.started("a", commandSpec())
	err := w.svc.Attach(t.Context(), c, vm.Streams{Stdin: strings.NewReader("x"), Stdout: io.Discard})
	mustBe(t, err, errdefs.ErrFailedPrecondition)
	sb := w.sandbox("b")
	mustBe(t, w.svc.Attach(t.Context(), w.created(sb, 0), vm.Streams{Stdout: io.Discard}), errdefs.ErrFailedPrecondition)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.svc.Attach(ctx, c, vm.Streams{Stdout: io.Discard}); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
}

// echo is a port that answers in capitals once its client has said all.
func echo(guest net.Conn) {
	said, err := io.ReadAll(guest)
	if err == nil {
		_, err = guest.Write(bytes.ToUpper(said))
	}
	_ = errors.Join(err, guest.Close()) //nolint:errcheck // the client sees it
}

func listener(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go echo(conn)
		}
	}()
	return l
}

// client is a stream of port-forward: what it has said, and what it was told.
type client struct {
	says   io.Reader
	heard  []byte
	closed bool
}

func (c *client) Read(p []byte) (int, error)  { return c.says.Read(p) }
func (c *client) Write(p []byte) (int, error) { c.heard = append(c.heard, p...); return len(p), nil }
func (c *client) Close() error                { c.closed = true; return nil }

func TestPortForwardGoesByTheAgentElseToTheGuestsAddress(t *testing.T) {
	w := newWorld(t)
	l := listener(t)
	sb, _ := w.running("a")
	var dialled string
	dial := func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
	}
	w.dial = func(ctx context.Context, _, address string) (net.Conn, error) { dialled = address; return dial(ctx) }
	forward := func() {
		t.Helper()
		c := &client{says: strings.NewReader("hello")}
		if err := w.svc.PortForward(t.Context(), sb, 80, c); err != nil || string(c.heard) != "HELLO" || !c.closed {
			t.Errorf("answer %q, closed %v, %v", c.heard, c.closed, err)
		}
	}
	w.guest.SetDial(func(ctx context.Context, port uint16) (net.Conn, error) {
		if port != 80 {
			t.Errorf("port %d", port)
		}
		return dial(ctx)
	})
	forward()
	if dialled != "" {
		t.Errorf("dialled %s although the agent could", dialled)
	}
	w.guest.SetDial(func(context.Context, uint16) (net.Conn, error) { return nil, errdefs.ErrNotImplemented })
	forward()
	record, err := w.svc.Sandbox(sb)
	if err != nil {
		t.Fatal(err)
	}
	if want := net.JoinHostPort(record.Status.Network.IPs()[0].String(), "80"); dialled != want {
		t.Errorf("dialled %q, want %s", dialled, want)
	}
}

func TestPortForwardThatCannotBeSaysWhy(t *testing.T) {
	w := newWorld(t)
	sb, c := w.running("a")
	mustBe(t, w.svc.PortForward(t.Context(), sb, 80, &client{says: strings.NewReader("")}), errdefs.ErrUnavailable)
	if err := w.svc.StopContainer(t.Context(), c, 0); err != nil {
		t.Fatal(err)
	}
	mustBe(t, w.svc.PortForward(t.Context(), sb, 80, &client{says: strings.NewReader("")}), errdefs.ErrFailedPrecondition)
}

func TestPortForwardEndsWithItsClient(t *testing.T) {
	w := newWorld(t)
	sb, _ := w.running("a")
	inside, outside := net.Pipe()
	w.guest.SetDial(func(context.Context, uint16) (net.Conn, error) { return inside, nil })
	ctx, cancel := context.WithCancel(t.Context())
	silent, end := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- w.svc.PortForward(ctx, sb, 80, &client{says: silent}) }()
	if _, err := end.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := outside.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error = %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it goes on without its client")
	}
	if _, err := outside.Read(make([]byte, 1)); err == nil {
		t.Error("the guest's connection is left open")
	}
}

// What is beside a command waits until the command is there: before, the guest has not what
// the pod gives it.
func TestExecAndInputWaitForTheCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		spec := commandSpec()
		spec.Stdin = true
		release := w.guest.Block("StartMain")
		sb, c := w.started("a", spec)
		executed, attached := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := w.svc.Exec(t.Context(), c, vm.ExecRequest{Command: []string{"true"}})
			executed <- err
		}()
		go func() {
			attached <- w.svc.Attach(t.Context(), c, vm.Streams{Stdin: strings.NewReader("go\n"), Stdout: io.Discard})
		}()
		synctest.Wait()
		for _, call := range []string{"Exec ", "AttachMain "} {
			if count(w.guest.Calls(), call+sb) != 0 {
				t.Errorf("%sbefore the command was started", call)
			}
		}
		release()
		if err := <-executed; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if got := w.guest.Input(sb); got != "go\n" {
			t.Errorf("input = %q", got)
		}
		close(w.streams.of(c))
		if err := <-attached; err != nil {
			t.Error(err)
		}
	})
}

func TestExecThatWaitsEndsWithItsCallerAndWithTheContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.guest.Mute()
		_, c := w.started("a", commandSpec())
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := w.svc.Exec(ctx, c, vm.ExecRequest{Command: []string{"true"}}); !errors.Is(err, context.Canceled) {
			t.Errorf("error = %v", err)
		}
		executed := w.execs(c)
		synctest.Wait() // until it waits
		if err := w.svc.StopContainer(t.Context(), c, 0); err != nil {
			t.Fatal(err)
		}
		mustBe(t, <-executed, errdefs.ErrFailedPrecondition)
	})
}
