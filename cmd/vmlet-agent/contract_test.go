// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/guesttest"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/machine"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/process"
	"github.com/vmlet/vmlet/pkg/agentlink"
	"github.com/vmlet/vmlet/pkg/agentlink/agentlinktest"
	"github.com/vmlet/vmlet/pkg/guest"
	"github.com/vmlet/vmlet/pkg/lifecycle/lifecycletest"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == process.Stage2Arg {
		os.Exit(process.Stage2())
	}
	guesttest.Run(m.Run)
}

// TestTheAgentAndItsHostKeepTheContract runs both sides, over a socket such as QEMU has, in
// namespaces that are this test's.
func TestTheAgentAndItsHostKeepTheContract(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the agent is root")
	}
	lifecycletest.RunGuest(t, func(t *testing.T) lifecycletest.GuestEnv {
		t.Helper()
		g := newGuest(t)
		host := guest.New(noQGA{}, func(id string) string { return filepath.Join(g.dir, id) })
		return lifecycletest.GuestEnv{
			Guest: host, Answering: "answering", Silent: "silent", Dir: t.TempDir(), User: guesttest.User(t).Name,
			Echo: echoPort(t), Closed: closedPort(t),
			Reboot: g.reboot, Hangup: g.hangUp, PoweredOff: g.poweredOff, Entries: g.entries,
		}
	})
}

// noQGA is a qemu-guest-agent that is not there.
type noQGA struct{}

// Command implements qga.Transport.
func (noQGA) Command(context.Context, string, []byte) ([]byte, error) {
	return nil, fmt.Errorf("no agent: %w", errdefs.ErrUnavailable)
}

// testGuest is a guest whose machine is this test's namespaces.
type testGuest struct {
	t    *testing.T
	dir  string
	off  string // a named pipe that is written to by poweroff
	boot int
	qemu *agentlinktest.Socket
	stop func()
}

func newGuest(t *testing.T) *testGuest {
	t.Helper()
	g := &testGuest{t: t, dir: t.TempDir()}
	bin := filepath.Join(g.dir, "bin")
	g.off = filepath.Join(g.dir, "off")
	program := "#!/bin/sh\necho off >" + g.off + "\n"
	if err := errors.Join(os.Mkdir(bin, 0o700), syscall.Mkfifo(g.off, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"poweroff", "reboot", "systemctl"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(program), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	if err := os.WriteFile(filepath.Join(g.dir, "output"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	port := g.start()
	var err error
	if g.qemu, err = agentlinktest.Listen(filepath.Join(g.dir, "answering"), port); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.stop()
		if err := g.qemu.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// start boots the guest, and returns its port.
func (g *testGuest) start() *agentlinktest.Port {
	g.t.Helper()
	g.boot++
	boot := fmt.Sprint("boot-", g.boot)
	server, err := build(config{outputPort: filepath.Join(g.dir, "output"), runDir: filepath.Join(g.dir, "run")}, machine.New(), boot)
	if err != nil {
		g.t.Fatal(err)
	}
	server.Freezer.Pretend(g.dir) // this host goes on
	port := agentlinktest.NewPort()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- agentlink.Serve(ctx, port, agentlink.Info{BootID: boot, Version: "test"}, server.Serve)
	}()
	g.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			g.t.Errorf("Serve: %v", err)
		}
	})
	return port
}

func (g *testGuest) reboot() {
	g.stop()
	g.qemu.Plug(g.start())
}

func (g *testGuest) hangUp() { g.qemu.Port().HangUp() }

func (g *testGuest) poweredOff() {
	if _, err := os.ReadFile(g.off); err != nil {
		g.t.Error(err)
	}
}

func (g *testGuest) entries(folder string, want ...string) {
	g.t.Helper()
	// What was given up goes once the agent has heard of it.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		found, err := os.ReadDir(folder)
		if err != nil {
			g.t.Fatal(err)
		}
		var names []string
		for _, e := range found {
			names = append(names, e.Name())
		}
		if slices.Equal(names, want) {
			return
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("%s has %q, want %q", folder, names, want)
		}
	}
}

// echoPort is a port of the loopback that sends back what comes.
func echoPort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
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
			go func() {
				_, err := io.Copy(conn, conn)
				if err = errors.Join(err, conn.Close()); err != nil {
					t.Error(err)
				}
			}()
		}
	}()
	return portOf(l)
}

func closedPort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return portOf(l)
}

func portOf(l net.Listener) uint16 {
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0
	}
	return uint16(addr.Port)
}
