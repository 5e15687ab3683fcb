// SPDX-License-Identifier: Apache-2.0

//nolint:thelper // these are the tests themselves: a failure is where it is found
package lifecycletest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

// clientPatience is how long a client may have to wait on a busy machine.
const clientPatience = 20 * time.Second

// RunConsoleStreams is the contract of lifecycle.ConsoleStreams. open returns a new
// environment, in which Streams are those of Consoles.
func RunConsoleStreams(t *testing.T, open func(t *testing.T) ConsolesEnv) {
	t.Helper()
	for name, run := range map[string]func(*testing.T, ConsolesEnv){
		"a client hears what is said from now on":  clientHearsFromNowOn,
		"a client hears the end":                   clientHearsTheEnd,
		"a client's end is its own":                clientsEndIsItsOwn,
		"hearing what is not followed is NotFound": hearUnknownIsNotFound,
		"the serial console is heard by itself":    serialIsHeard,
	} {
		t.Run(name, func(t *testing.T) { run(t, open(t)) })
	}
}

// hearing is a client that hears all.
type hearing struct {
	ended chan error
	news  chan struct{}

	mu    sync.Mutex
	heard bytes.Buffer
}

func (h *hearing) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case h.news <- struct{}{}:
	default:
	}
	return h.heard.Write(b)
}

func hear(t *testing.T, env ConsolesEnv, c lifecycle.Console) *hearing {
	t.Helper()
	deliver, err := env.Streams.Subscribe(t.Context(), c.ContainerID)
	if err != nil {
		t.Fatal(err)
	}
	h := &hearing{ended: make(chan error, 1), news: make(chan struct{}, 1)}
	go func() { h.ended <- deliver(t.Context(), h, nil) }()
	return h
}

func (h *hearing) waitFor(t *testing.T, want string) {
	t.Helper()
	timeout := time.After(clientPatience)
	for {
		h.mu.Lock()
		got := h.heard.String()
		h.mu.Unlock()
		if got == want {
			return
		}
		select {
		case <-h.news:
		case <-timeout:
			t.Fatalf("heard %q, want %q", got, want)
		}
	}
}

func (h *hearing) waitForEnd(t *testing.T) error {
	t.Helper()
	select {
	case err := <-h.ended:
		return err
	case <-time.After(clientPatience):
		t.Fatal("the client is not told the end")
		return nil
	}
}

func clientHearsFromNowOn(t *testing.T, env ConsolesEnv) {
	c := env.Console("a", true)
	mustFollow(t, env, c)
	env.Print(c.Spool, "before\n")
	wantLog(t, env, c.Log, "before\n")
	h := hear(t, env, c)
	env.Print(c.Spool, "a prompt: ")
	h.waitFor(t, "a prompt: ")
	env.Print(c.Spool, "and more\n")
	h.waitFor(t, "a prompt: and more\n")
}

func clientHearsTheEnd(t *testing.T, env ConsolesEnv) {
	for _, logged := range []bool{true, false} {
		c := env.Console("a", logged)
		mustFollow(t, env, c)
		h := hear(t, env, c)
		env.Print(c.Spool, "last words")
		mustFinish(t, env, c)
		h.waitFor(t, "last words")
		if err := h.waitForEnd(t); err != nil {
			t.Errorf("logged %v: the client ended with %v", logged, err)
		}
	}
}

func clientsEndIsItsOwn(t *testing.T, env ConsolesEnv) {
	c := env.Console("a", true)
	mustFollow(t, env, c)
	stays := hear(t, env, c)
	deliver, err := env.Streams.Subscribe(t.Context(), c.ContainerID)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := deliver(ctx, io.Discard, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("deliver: %v, want the context's error", err)
	}
	env.Print(c.Spool, "still here\n")
	stays.waitFor(t, "still here\n")
	mustFinish(t, env, c)
}

func hearUnknownIsNotFound(t *testing.T, env ConsolesEnv) {
	if _, err := env.Streams.Subscribe(t.Context(), "a"); !errdefs.IsNotFound(err) {
		t.Errorf("never followed: error = %v, want NotFound", err)
	}
	c := env.Console("a", true)
	mustFollow(t, env, c)
	mustFinish(t, env, c)
	if _, err := env.Streams.Subscribe(t.Context(), "a"); !errdefs.IsNotFound(err) {
		t.Errorf("finished: error = %v, want NotFound", err)
	}
}

func serialIsHeard(t *testing.T, env ConsolesEnv) {
	c := env.Console("a", true)
	mustFollow(t, env, c)
	env.Print(c.Spool, "first\nlast\n")
	deliver, err := env.Streams.SubscribeSerial(t.Context(), c.ContainerID, int64(len("last\n")))
	if c.Format != vm.ConsoleRaw {
		if !errdefs.IsNotFound(err) {
			t.Errorf("error = %v, want NotFound", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	h := &hearing{ended: make(chan error, 1), news: make(chan struct{}, 1)}
	go func() { h.ended <- deliver(t.Context(), h) }()
	h.waitFor(t, "last\n")
	env.Print(c.Spool, "now\n")
	h.waitFor(t, "last\nnow\n")
	mustFinish(t, env, c)
	if err := h.waitForEnd(t); err != nil {
		t.Errorf("the client ended with %v", err)
	}
}
