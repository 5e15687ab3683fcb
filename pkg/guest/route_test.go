// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

var _ lifecycle.Guest = (*Guest)(nil)

// onlyQGA is a qemu-guest-agent for which every command prints hello and succeeds.
type onlyQGA struct {
	silent bool
	tag    string // of the command that runs: what its output ends with
}

// Command implements qga.Transport.
func (q *onlyQGA) Command(_ context.Context, _ string, cmd []byte) ([]byte, error) {
	if q.silent {
		return nil, fmt.Errorf("no agent: %w", errdefs.ErrUnavailable)
	}
	var c struct {
		Execute   string `json:"execute"`
		Arguments struct {
			Arg []string `json:"arg"`
		} `json:"arguments"`
	}
	if err := json.Unmarshal(cmd, &c); err != nil {
		return nil, err
	}
	switch c.Execute {
	case "guest-exec":
		q.tag = c.Arguments.Arg[slices.IndexFunc(c.Arguments.Arg, func(arg string) bool { return strings.HasPrefix(arg, "vmlet-") })]
		return []byte(`{"return":{"pid":2}}`), nil
	case "guest-exec-status":
		return json.Marshal(map[string]any{"return": map[string]any{
			"exited": true, "exitcode": 3, "out-data": []byte("hello\n" + q.tag + " 3 0\n"),
		}})
	}
	return []byte(`{"return":{}}`), nil
}

// connected is a Guest whose sandbox "a" has a qemu-guest-agent at most.
func connected(t *testing.T, q *onlyQGA) *Guest {
	t.Helper()
	g := New(q, func(id string) string { return filepath.Join(t.TempDir(), id) })
	g.Connect("a")
	return g
}

func TestWhatOnlyVmletAgentCanDoIsNotImplementedByName(t *testing.T) {
	for name, tc := range map[string]struct {
		call func(context.Context, *Guest) error
		says string
	}{
		"a terminal": {func(ctx context.Context, g *Guest) error {
			_, err := g.Exec(ctx, "a", vm.Process{Args: []string{"sh"}, TTY: true}, vm.Streams{})
			return err
		}, "a terminal"},
		"standard input": {func(ctx context.Context, g *Guest) error {
			_, err := g.Exec(ctx, "a", vm.Process{Args: []string{"sh"}}, vm.Streams{Stdin: strings.NewReader("")})
			return err
		}, "standard input"},
		"a user": {func(ctx context.Context, g *Guest) error {
			_, err := g.Exec(ctx, "a", vm.Process{Args: []string{"sh"}, Security: &vm.Security{User: "1"}}, vm.Streams{})
			return err
		}, "a security context"},
		"a folder": {func(ctx context.Context, g *Guest) error {
			_, err := g.Exec(ctx, "a", vm.Process{Args: []string{"sh"}, WorkingDir: "/"}, vm.Streams{})
			return err
		}, "a working directory"},
		"a command": {func(ctx context.Context, g *Guest) error {
			return g.StartMain(ctx, "a", vm.Main{ID: "c", Process: vm.Process{Args: []string{"sh"}}})
		}, "a container's command"},
		"a port": {func(ctx context.Context, g *Guest) error {
			_, err := g.Dial(ctx, "a", 80)
			return err
		}, "a port of the guest's loopback"},
		"setting up": {func(ctx context.Context, g *Guest) error {
			return g.Setup(ctx, "a", vm.GuestSetup{})
		}, "sysctls"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := connected(t, &onlyQGA{})
				defer g.Disconnect("a")
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				err := tc.call(ctx, g)
				if !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(began); took < grace || took > 2*grace {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

// A machine without a port for vmlet-agent is never waited for it.
func TestAGuestWithoutAPortForVmletAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(&onlyQGA{}, func(string) string { return "" })
		g.ConnectQGA("a")
		began := time.Now()
		var stdout bytes.Buffer
		code, err := g.Exec(t.Context(), "a", vm.Process{Args: []string{"true"}}, vm.Streams{Stdout: &stdout})
		if err != nil || code != 3 || stdout.String() != "hello" {
			t.Errorf("%d, %q, %v", code, &stdout, err)
		}
		if _, err := g.AwaitAgent(t.Context(), "a"); !errdefs.IsNotImplemented(err) {
			t.Errorf("AwaitAgent: %v", err)
		}
		if _, err := g.Dial(t.Context(), "a", 80); !errdefs.IsNotImplemented(err) {
			t.Errorf("Dial: %v", err)
		}
		if took := time.Since(began); took >= grace {
			t.Errorf("it took %s", took)
		}
		g.Disconnect("a")
		if g.hasNoPort("a") {
			t.Error("it is remembered after Disconnect")
		}
	})
}

func TestAPlainCommandRunsByQemuGuestAgentAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := connected(t, &onlyQGA{})
		defer g.Disconnect("a")
		began := time.Now()
		var stdout bytes.Buffer
		code, err := g.Exec(t.Context(), "a", vm.Process{Args: []string{"true"}}, vm.Streams{Stdout: &stdout})
		if err != nil || code != 3 || stdout.String() != "hello" {
			t.Errorf("%d, %q, %v", code, &stdout, err)
		}
		if took := time.Since(began); took > grace {
			t.Errorf("it took %s", took)
		}
	})
}

func TestAGuestWithoutAnyAgentIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := connected(t, &onlyQGA{silent: true})
		defer g.Disconnect("a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := g.Exec(ctx, "a", vm.Process{Args: []string{"true"}}, vm.Streams{})
		if !errdefs.IsDeadlineExceeded(err) || !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "vmlet-agent did not answer") {
			t.Errorf("got %v", err)
		}
		if err := g.Shutdown(t.Context(), "a"); !errdefs.IsUnavailable(err) {
			t.Errorf("Shutdown: %v", err)
		}
	})
}
