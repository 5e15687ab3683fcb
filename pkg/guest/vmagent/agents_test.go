// SPDX-License-Identifier: Apache-2.0

package vmagent

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/vmlet/vmlet/pkg/agentlink"
	"github.com/vmlet/vmlet/pkg/agentlink/agentlinktest"
	"github.com/vmlet/vmlet/pkg/agentlink/cobs"
	"github.com/vmlet/vmlet/pkg/vm"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// machine is QEMU with a guest whose agent is the test's.
type machine struct {
	t      *testing.T
	path   string
	socket *agentlinktest.Socket
}

// newMachine returns a machine that is off, and Agents that are connected to it as "a".
func newMachine(t *testing.T) (*machine, *Agents) {
	t.Helper()
	m := &machine{t: t, path: filepath.Join(t.TempDir(), "agent.sock")}
	a := New(func(string) string { return m.path })
	a.Connect("a")
	t.Cleanup(func() { a.Disconnect("a") })
	return m, a
}

// boot starts the machine, or reboots it, with an agent.
func (m *machine) boot(id string, handle agentlink.Handler) (off func()) {
	m.t.Helper()
	port := agentlinktest.NewPort()
	if m.socket == nil {
		var err error
		if m.socket, err = agentlinktest.Listen(m.path, port); err != nil {
			m.t.Fatal(err)
		}
		m.t.Cleanup(func() {
			if err := m.socket.Close(); err != nil {
				m.t.Error(err)
			}
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := agentlink.Serve(ctx, port, agentlink.Info{BootID: id}, handle); !errors.Is(err, context.Canceled) {
			m.t.Errorf("Serve: %v", err)
		}
	}()
	m.socket.Plug(port)
	off = func() { cancel(); <-ended }
	m.t.Cleanup(off)
	return off
}

// answering serves calls by their first answer.
func answering(answer func(*agentv1.Request) *agentv1.Reply) agentlink.Handler {
	return func(_ context.Context, s *agentlink.Stream) {
		req := &agentv1.Request{}
		if s.Receive(req) == nil {
			anyway(s.Send(answer(req)))
		}
	}
}

func informing(req *agentv1.Request) *agentv1.Reply {
	if req.GetInfo() == nil {
		return &agentv1.Reply{}
	}
	return &agentv1.Reply{Result: &agentv1.Reply_Info{Info: &agentv1.Info{BootId: "x"}}}
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestAMachineIsFoundThatIsStartedLater(t *testing.T) {
	m, a := newMachine(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := a.Await(ctx, "a")
	if !errdefs.IsUnavailable(err) || !errdefs.IsDeadlineExceeded(err) || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("while it is off: %v", err)
	}
	m.boot("boot-1", answering(informing))
	if boot, err := a.Await(soon(t), "a"); err != nil || boot != "boot-1" {
		t.Errorf("%q, %v", boot, err)
	}
	if _, err := a.Info(soon(t), "a"); err != nil {
		t.Error(err)
	}
}

// TestASilentConnectionIsGivenUp: what a guest says may be held for as long as QEMU has this connection.
func TestASilentConnectionIsGivenUp(t *testing.T) {
	m := &machine{t: t, path: filepath.Join(t.TempDir(), "agent.sock")}
	stuck, err := net.Listen("unix", m.path)
	if err != nil {
		t.Fatal(err)
	}
	a := New(func(string) string { return m.path })
	a.silence = 100 * time.Millisecond
	a.Connect("a")
	t.Cleanup(func() { a.Disconnect("a") })
	conn, err := stuck.Accept()
	if err != nil {
		t.Fatal(err)
	}
	err = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, given := io.Copy(io.Discard, conn) // up
	if err := errors.Join(err, given, conn.Close(), stuck.Close()); err != nil {
		t.Fatal(err)
	}
	m.boot("boot-1", answering(informing))
	if boot, err := a.Await(soon(t), "a"); err != nil || boot != "boot-1" {
		t.Errorf("%q, %v", boot, err)
	}
}

func TestAnAgentOfOtherVersionsIsNotWaitedFor(t *testing.T) {
	m, a := newMachine(t)
	m.mute()
	port := m.socket.Port()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		b := make([]byte, 1024) // one Hello is less, and comes at once
		for {
			n, err := port.Read(b)
			if errors.Is(err, io.EOF) {
				time.Sleep(time.Millisecond) // until there is a host again
				continue
			}
			if err != nil {
				return
			}
			plain, err := cobs.Decode(nil, bytes.Trim(b[:n], "\x00"))
			hello := &agentv1.Hello{}
			if err == nil {
				err = proto.Unmarshal(plain[1:len(plain)-4], hello)
			}
			if err != nil {
				t.Error(err)
				return
			}
			welcome, err := proto.Marshal(&agentv1.Welcome{Nonce: hello.GetNonce(), Agent: "v9", Error: &agentv1.Error{Message: "versions 7 to 9"}})
			if err != nil {
				t.Error(err)
				return
			}
			plain = append([]byte{2}, welcome...)
			plain = binary.BigEndian.AppendUint32(plain, crc32.Checksum(plain, crc32.MakeTable(crc32.Castagnoli)))
			anyway(port.Write(append(cobs.Append([]byte{0}, plain), 0)))
		}
	}()
	_, err := a.Info(soon(t), "a")
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "versions 7 to 9") || !strings.Contains(err.Error(), "v9") {
		t.Errorf("got %v", err)
	}
	a.Disconnect("a")
	anyway(port.Close())
	<-answered
}

func TestAGuestThatIsNotConnectedIsRefused(t *testing.T) {
	_, a := newMachine(t)
	if _, err := a.Info(soon(t), "b"); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("Info: %v", err)
	}
	if _, err := a.Await(soon(t), "b"); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("Await: %v", err)
	}
}

func TestRebootsThatNobodyHearsOfAreToldOnceAndHoldUpNothing(t *testing.T) {
	m, a := newMachine(t)
	off := m.boot("boot-0", answering(informing))
	if _, err := a.Await(soon(t), "a"); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		off()
		id := fmt.Sprint("boot-", i+1)
		off = m.boot(id, answering(informing))
		for {
			boot, err := a.Await(soon(t), "a")
			if err != nil {
				t.Fatal(err)
			}
			if boot == id {
				break
			}
			runtime.Gosched()
		}
	}
	if id := <-a.Reboots(); id != "a" {
		t.Errorf("a reboot of %s", id)
	}
	select {
	case id := <-a.Reboots():
		t.Errorf("another reboot of %s", id)
	case <-time.After(50 * time.Millisecond):
	}
}

func TestDisconnectEndsWhatWaits(t *testing.T) {
	for name, start := range map[string]func(*machine){
		"a machine that is off":              func(*machine) {},
		"a guest without an agent":           func(m *machine) { m.mute() },
		"a call that is not answered":        func(m *machine) { m.boot("b", func(ctx context.Context, _ *agentlink.Stream) { <-ctx.Done() }) },
		"a reboot that nobody was told of":   func(m *machine) { m.boot("b", answering(informing))(); m.boot("c", answering(informing)) },
		"an agent that comes and goes":       func(m *machine) { m.flapping() },
		"a guest that sends only what is no": func(m *machine) { m.babbling() },
	} {
		t.Run(name, func(t *testing.T) {
			m, a := newMachine(t)
			start(m)
			ended := make(chan error, 1)
			go func() {
				_, err := a.WaitMain(t.Context(), "a", "c")
				ended <- err
			}()
			time.Sleep(20 * time.Millisecond)
			began := time.Now()
			a.Disconnect("a")
			if err := <-ended; err == nil {
				t.Error("the call succeeded")
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// mute boots a guest without an agent.
func (m *machine) mute() {
	m.t.Helper()
	socket, err := agentlinktest.Listen(m.path, agentlinktest.NewPort())
	if err != nil {
		m.t.Fatal(err)
	}
	m.socket = socket
	m.t.Cleanup(func() {
		if err := socket.Close(); err != nil {
			m.t.Error(err)
		}
	})
}

// babbling boots a guest that never stops.
func (m *machine) babbling() {
	m.t.Helper()
	m.mute()
	port := m.socket.Port()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if _, err := port.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	}()
	m.t.Cleanup(func() { anyway(port.Close()); <-ended })
}

// flapping boots a guest whose connection breaks again and again.
func (m *machine) flapping() {
	m.t.Helper()
	m.boot("b", func(ctx context.Context, _ *agentlink.Stream) { <-ctx.Done() })
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for sleep(ctx, time.Millisecond) {
			m.socket.Port().HangUp()
		}
	}()
	m.t.Cleanup(func() { cancel(); <-ended })
}

func TestACallIsNotRepeatedFasterThanAPersonCouldSay(t *testing.T) {
	m, a := newMachine(t)
	var calls atomic.Int32
	m.boot("b", func(_ context.Context, s *agentlink.Stream) {
		calls.Add(1)
		anyway(s.Receive(&agentv1.Request{})) // and goes without an answer
	})
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := a.WaitMain(ctx, "a", "c")
	if !errdefs.IsDeadlineExceeded(err) {
		t.Errorf("got %v", err)
	}
	if n := calls.Load(); n < 2 || n > 10 {
		t.Errorf("%d calls", n)
	}
}

func TestAnswersAreChecked(t *testing.T) {
	exit := func(e *agentv1.MainExit) func(*agentv1.Request) *agentv1.Reply {
		return func(*agentv1.Request) *agentv1.Reply {
			return &agentv1.Reply{Result: &agentv1.Reply_MainExit{MainExit: e}}
		}
	}
	refusal := func(class agentv1.Error_Class, text string) func(*agentv1.Request) *agentv1.Reply {
		return func(*agentv1.Request) *agentv1.Reply {
			return &agentv1.Reply{Error: &agentv1.Error{Class: class, Message: text}}
		}
	}
	for name, tc := range map[string]struct {
		answer func(*agentv1.Request) *agentv1.Reply
		is     func(error) bool
	}{
		"no exit":                 {exit(nil), errdefs.IsInternal},
		"another command's":       {exit(&agentv1.MainExit{Id: "d", Exit: &agentv1.Exit{}}), errdefs.IsInternal},
		"an exit without a code":  {exit(&agentv1.MainExit{Id: "c"}), errdefs.IsInternal},
		"a code of 256":           {exit(&agentv1.MainExit{Id: "c", Exit: &agentv1.Exit{Code: 256}}), errdefs.IsInternal},
		"a code of -1":            {exit(&agentv1.MainExit{Id: "c", Exit: &agentv1.Exit{Code: -1}}), errdefs.IsInternal},
		"a signal of 128":         {exit(&agentv1.MainExit{Id: "c", Exit: &agentv1.Exit{Signal: 128}}), errdefs.IsInternal},
		"more than is asked for":  {exit(&agentv1.MainExit{Id: "c", TerminationLog: make([]byte, shortAnswer)}), errdefs.IsInternal},
		"a refusal":               {refusal(agentv1.Error_NOT_FOUND, "no"), errdefs.IsNotFound},
		"a refusal of no class":   {refusal(77, "no"), errdefs.IsUnknown},
		"a refusal of many lines": {refusal(agentv1.Error_UNKNOWN, strings.Repeat("x\x1b[31m\n", 1000)), func(err error) bool { return len(err.Error()) < 400 && !strings.ContainsAny(err.Error(), "\n\x1b") }},
	} {
		t.Run(name, func(t *testing.T) {
			m, a := newMachine(t)
			m.boot("b", answering(tc.answer))
			if _, err := a.WaitMain(soon(t), "a", "c"); !tc.is(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAGuestThatDoesNotTellOfAnEndIsNotWaitedForForEver(t *testing.T) {
	m, a := newMachine(t)
	m.boot("b", func(ctx context.Context, s *agentlink.Stream) {
		anyway(s.Receive(&agentv1.Request{}))
		anyway(s.Send(&agentv1.Reply{}))
		<-ctx.Done()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := a.Exec(ctx, "a", vm.Process{Args: []string{"sleep"}}, vm.Streams{})
		ended <- err
	}()
	select {
	case err := <-ended:
		if !errdefs.IsDeadlineExceeded(err) {
			t.Errorf("got %v", err)
		}
	case <-time.After(2 * killTimeout):
		t.Error("it goes on")
	}
}

func TestWhatWasWrittenArrivesThoughTheConnectionIsClosedAtOnce(t *testing.T) {
	m, a := newMachine(t)
	got := make(chan string, 1)
	m.boot("b", func(_ context.Context, s *agentlink.Stream) {
		anyway(s.Receive(&agentv1.Request{}))
		anyway(s.Send(&agentv1.Reply{}))
		b, err := io.ReadAll(s)
		got <- fmt.Sprint(len(b), " ", err)
	})
	conn, err := a.Dial(soon(t), "a", 80)
	if err != nil {
		t.Fatal(err)
	}
	reading := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		reading <- err
	}()
	const size = 1 << 20
	if _, err := conn.Write(make([]byte, size)); err != nil {
		t.Error(err)
	}
	if err := errors.Join(conn.Close(), conn.Close()); err != nil {
		t.Error(err)
	}
	if err := <-reading; err == nil {
		t.Error("a read outlived the connection")
	}
	if _, err := conn.Write(make([]byte, 1)); err == nil {
		t.Error("a closed connection was written to")
	}
	if text := <-got; text != fmt.Sprint(size, " <nil>") {
		t.Errorf("the guest read %s", text)
	}
}

// anyway drops what a test does not depend on: the host may have gone.
func anyway(...any) {}

func TestAnAgentThatComesAndGoesIsToldAlsoLater(t *testing.T) {
	m, a := newMachine(t)
	is := func(boot string, answers bool) {
		t.Helper()
		for {
			id, err := a.AwaitChange(soon(t))
			if err != nil {
				t.Fatalf("waiting for %q, %t: %v", boot, answers, err)
			}
			if id != "a" {
				t.Errorf("a change of %s", id)
			}
			if b, up := a.State("a"); b == boot && up == answers {
				return
			}
		}
	}
	off := m.boot("boot-0", answering(informing))
	is("boot-0", true)
	off()
	is("", false)
	off = m.boot("boot-1", answering(informing))
	if _, err := a.Await(soon(t), "a"); err != nil {
		t.Fatal(err)
	}
	off() // nobody has listened yet
	is("", false)
	if boot, up := a.State("b"); boot != "" || up {
		t.Errorf("a guest that is not connected: %q, %t", boot, up)
	}
}
