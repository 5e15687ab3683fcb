// SPDX-License-Identifier: Apache-2.0

//nolint:thelper // these are the tests themselves: a failure is where it is found
package lifecycletest

import (
	"context"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle"
)

// ConsolesEnv is a lifecycle.Consoles under test, with hands on what lies around it.
type ConsolesEnv struct {
	Consoles lifecycle.Consoles
	// Streams is for RunConsoleStreams only.
	Streams lifecycle.ConsoleStreams
	// Console makes a console with an empty spool, and a log path if logged.
	Console func(id string, logged bool) lifecycle.Console
	// Print appends to a spool as QEMU does.
	Print func(spool, output string)
	// Rotate renames a log file.
	Rotate func(from, to string)
	// Log returns the lines in a log file without time, stream and tag; "" for no file.
	Log func(path string) string
	// SpoolExists reports whether there is still a spool.
	SpoolExists func(spool string) bool
}

// RunConsoles is the contract of lifecycle.Consoles. open returns a new environment.
func RunConsoles(t *testing.T, open func(t *testing.T) ConsolesEnv) {
	t.Helper()
	for name, run := range map[string]func(*testing.T, ConsolesEnv){
		"output goes to the log":                      outputGoesToTheLog,
		"output from before following is not lost":    earlyOutputIsNotLost,
		"following twice copies once":                 followingTwiceCopiesOnce,
		"consoles are apart":                          consolesAreApart,
		"after reopening the log is a new file":       reopenMakesANewLog,
		"until reopening the renamed log is written":  renamedLogIsWritten,
		"reopening what is not followed is NotFound":  reopenUnknownIsNotFound,
		"finishing copies the rest and ends the line": finishCopiesTheRest,
		"finishing again changes nothing":             finishIsIdempotent,
		"finishing what was never followed copies it": finishUnfollowed,
		"a console without a log is consumed":         consoleWithoutLog,
		"an ended context is honoured":                endedContextIsHonoured,
	} {
		t.Run(name, func(t *testing.T) { run(t, open(t)) })
	}
}

func mustFollow(t *testing.T, env ConsolesEnv, c lifecycle.Console) {
	t.Helper()
	if err := env.Consoles.Follow(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

func mustFinish(t *testing.T, env ConsolesEnv, c lifecycle.Console) {
	t.Helper()
	if err := env.Consoles.Finish(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if env.SpoolExists(c.Spool) {
		t.Error("the spool is still there")
	}
}

// wantLog waits until the log says this and nothing else.
func wantLog(t *testing.T, env ConsolesEnv, path, want string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		got := env.Log(path)
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s says %q, want %q", path, got, want)
		}
		time.Sleep(time.Millisecond) //nolint:forbidigo // a file that grows has no event here
	}
}

func outputGoesToTheLog(t *testing.T, env ConsolesEnv) {
	c := env.Console("a", true)
	mustFollow(t, env, c)
	env.Print(c.Spool, "Booting\r\n")
	wantLog(t, env, c.Log, "Booting\n")
	env.Print(c.Spool, "READY\nbye\n")
	wantLog(t, env, c.Log, "Booting\nREADY\nbye\n")
}

func earlyOutputIsNotLost(t *testing.T, env ConsolesEnv) {
	c := env.Console("a", true)
	env.Print(c.Spool, "early\n")
	mustFollow(t, env, c)
	wantLog(t, env, c.Log, "early\n")
}

func followingTwiceCopiesOnce(t *testing.T, env ConsolesEnv) {
	c := env.Console("a", true)
	mustFollow(t, env, c)
	env.Print(c.Spool, "one\n")
	mustFollow(t, env, c)
	env.Print(c.Spool, "two\n")
	mustFinish(t, env, c)
	wantLog(t, env, c.Log, "one\ntwo\n")
}

func consolesAreApart(t *testing.T, env ConsolesEnv) {
	a, b := env.Console("a", true), env.Console("b", true)
	mustFollow(t, env, a)
	mustFollow(t, env, b)
	env.Print(a.Spool, "from a\n")
	env.Print(b.Spool, "from b\n")
	mustFinish(t, env, a)
	env.Print(b.Spool, "still b\n")
	wantLog(t, env, a.Log, "from a\n")
	wantLog(t, env, b.Log, "from b\nstill b\n")
}

func reopenMakesANewLog(t *testing.T, env ConsolesEnv) {
	c := env.Console("a", true)
	mustFollow(t, env, c)
	env.Print(c.Spool, "old\n")
	wantLog(t, env, c.Log, "old\n")
	env.Rotate(c.Log, c.Log+".1")
	if err := env.Consoles.Reopen(t.Context(), c.ContainerID); err != nil {
		t.Fatal(err)
	}
	env.Print(c.Spool, "new\n")
	wantLog(t, env, c.Log, "new\n")
	wantLog(t, env, c.Log+".1", "old\n")
}

func renamedLogIsWritten(t *testing.T, env ConsolesEnv) {
	c := env.Console("a", true)
	mustFollow(t, env, c)
	env.Print(c.Spool, "old\n")
	wantLog(t, env, c.Log, "old\n")
	env.Rotate(c.Log, c.Log+".1")
	env.Print(c.Spool, "renamed\n")
	wantLog(t, env, c.Log+".1", "old\nrenamed\n")
	wantLog(t, env, c.Log, "")
}

func reopenUnknownIsNotFound(t *testing.T, env ConsolesEnv) {
	if err := env.Consoles.Reopen(t.Context(), "a"); !errdefs.IsNotFound(err) {
		t.Errorf("never followed: error = %v, want NotFound", err)
	}
	c := env.Console("a", true)
	mustFollow(t, env, c)
	mustFinish(t, env, c)
	if err := env.Consoles.Reopen(t.Context(), "a"); !errdefs.IsNotFound(err) {
		t.Errorf("finished: error = %v, want NotFound", err)
	}
}

func finishCopiesTheRest(t *testing.T, env ConsolesEnv) {
	c := env.Console("a", true)
	mustFollow(t, env, c)
	env.Print(c.Spool, "line\nand a half")
	mustFinish(t, env, c)
	wantLog(t, env, c.Log, "line\nand a half\n")
}

func finishIsIdempotent(t *testing.T, env ConsolesEnv) {
	c := env.Console("a", true)
	mustFollow(t, env, c)
	env.Print(c.Spool, "half")
	for range 3 {
		mustFinish(t, env, c)
		wantLog(t, env, c.Log, "half\n")
	}
}

func finishUnfollowed(t *testing.T, env ConsolesEnv) {
	c := env.Console("a", true)
	env.Print(c.Spool, "nobody looked\n")
	mustFinish(t, env, c)
	wantLog(t, env, c.Log, "nobody looked\n")
}

func consoleWithoutLog(t *testing.T, env ConsolesEnv) {
	c := env.Console("a", false)
	mustFollow(t, env, c)
	env.Print(c.Spool, "to nobody\n")
	if err := env.Consoles.Reopen(t.Context(), c.ContainerID); err != nil {
		t.Errorf("Reopen: %v", err)
	}
	mustFinish(t, env, c)
}

func endedContextIsHonoured(t *testing.T, env ConsolesEnv) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := env.Console("a", true)
	if err := env.Consoles.Follow(ctx, c); err == nil {
		t.Error("Follow succeeded")
	}
	if err := env.Consoles.Reopen(t.Context(), "a"); !errdefs.IsNotFound(err) {
		t.Errorf("it is followed all the same: %v", err)
	}
}
