// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// gatedMain is a command that counts its starts and, once DIR/gate is there, ends with 7.
func gatedMain(env GuestEnv, id string) vm.Main {
	return vm.Main{ID: id, TerminationLog: env.Dir + "/log", Process: vm.Process{Args: []string{
		"/bin/sh", "-c", `echo start >>"$0/starts"; until [ -e "$0/gate" ]; do sleep 0.05; done; printf bye >"$0/log"; exit 7`, env.Dir,
	}}}
}

func mustStart(t *testing.T, env GuestEnv, m vm.Main) {
	t.Helper()
	if err := env.Guest.StartMain(t.Context(), env.Answering, m); err != nil {
		t.Fatal(err)
	}
}

func mustWait(t *testing.T, env GuestEnv) vm.MainExit {
	t.Helper()
	exit, err := env.Guest.WaitMain(t.Context(), env.Answering, "c1")
	if err != nil {
		t.Fatal(err)
	}
	return exit
}

func openGate(t *testing.T, env GuestEnv) {
	t.Helper()
	mustRun(t, env, "/bin/sh", "-c", `: >"$0/gate"`, env.Dir)
}

func commandRunsOnce(t *testing.T, env GuestEnv) {
	main := gatedMain(env, "c1")
	mustStart(t, env, main)
	mustStart(t, env, main)
	awaitFile(t, env, env.Dir+"/starts")
	openGate(t, env)
	for range 2 { // it is held until it is acknowledged
		exit := mustWait(t, env)
		if exit.Code != 7 || exit.Signal != 0 || string(exit.TerminationLog) != "bye" || exit.At.IsZero() {
			t.Errorf("exit %+v, log %q", exit, exit.TerminationLog)
		}
	}
	mustStart(t, env, main)
	if got := mustRun(t, env, "cat", env.Dir+"/starts").stdout.String(); got != "start\n" {
		t.Errorf("it was started: %q", got)
	}
}

func commandOutlivesSessions(t *testing.T, env GuestEnv) {
	mustStart(t, env, gatedMain(env, "c1"))
	ended := make(chan vm.MainExit, 1)
	go func() {
		exit, err := env.Guest.WaitMain(t.Context(), env.Answering, "c1")
		if err != nil {
			t.Error(err)
		}
		ended <- exit
	}()
	mustRun(t, env, "true")
	hangUp(t, env)
	openGate(t, env)
	if exit := <-ended; exit.Code != 7 {
		t.Errorf("exit %+v", exit)
	}
}

func commandThatIsNotThere(t *testing.T, env GuestEnv) {
	mustStart(t, env, vm.Main{ID: "c1", Process: vm.Process{Args: []string{"/nowhere/nothing"}}})
	if exit := mustWait(t, env); exit.Code != 127 || exit.StartError == "" {
		t.Errorf("exit %+v", exit)
	}
}

func secondCommandIsRefused(t *testing.T, env GuestEnv) {
	mustStart(t, env, gatedMain(env, "c1"))
	if err := env.Guest.StartMain(t.Context(), env.Answering, gatedMain(env, "c2")); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("got %v", err)
	}
	openGate(t, env)
	mustWait(t, env)
}

func unknownCommandIsNotFound(t *testing.T, env GuestEnv) {
	if _, err := env.Guest.WaitMain(t.Context(), env.Answering, "c9"); !errdefs.IsNotFound(err) {
		t.Errorf("WaitMain: %v", err)
	}
	if err := env.Guest.AckMain(t.Context(), env.Answering, "c9"); !errdefs.IsNotFound(err) {
		t.Errorf("AckMain: %v", err)
	}
	if err := env.Guest.SignalMain(t.Context(), env.Answering, "c9", "SIGTERM"); !errdefs.IsNotFound(err) {
		t.Errorf("SignalMain: %v", err)
	}
	if err := env.Guest.AttachMain(t.Context(), env.Answering, "c9", strings.NewReader(""), nil); !errdefs.IsNotFound(err) {
		t.Errorf("AttachMain: %v", err)
	}
}

func rebootForgetsTheCommand(t *testing.T, env GuestEnv) {
	mustStart(t, env, gatedMain(env, "c1"))
	ended := make(chan error, 1)
	go func() {
		_, err := env.Guest.WaitMain(t.Context(), env.Answering, "c1")
		for errdefs.IsUnavailable(err) { // it asked in the moment in which the session ended
			_, err = env.Guest.WaitMain(t.Context(), env.Answering, "c1")
		}
		ended <- err
	}()
	env.Reboot()
	<-env.Guest.Reboots()
	if err := <-ended; !errdefs.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
}

func signalReachesCommand(t *testing.T, env GuestEnv) {
	mustStart(t, env, vm.Main{ID: "c1", Process: vm.Process{Args: []string{
		"/bin/sh", "-c", `trap 'exit 5' USR1; : >"$0/ready"; while :; do sleep 0.05; done`, env.Dir,
	}}})
	awaitFile(t, env, env.Dir+"/ready")
	if err := env.Guest.SignalMain(t.Context(), env.Answering, "c1", "SIGUSR1"); err != nil {
		t.Fatal(err)
	}
	if exit := mustWait(t, env); exit.Code != 5 {
		t.Errorf("exit %+v", exit)
	}
	if err := env.Guest.SignalMain(t.Context(), env.Answering, "c1", "SIGTERM"); !errdefs.IsNotFound(err) {
		t.Errorf("a signal after the end: %v", err)
	}
}

func attachGivesInput(t *testing.T, env GuestEnv) {
	mustStart(t, env, vm.Main{ID: "c1", Stdin: true, StdinOnce: true, Process: vm.Process{Args: []string{
		"/bin/sh", "-c", `cat >"$0/input"`, env.Dir,
	}}})
	if err := env.Guest.AttachMain(t.Context(), env.Answering, "c1", strings.NewReader("hello"), nil); err != nil {
		t.Fatal(err)
	}
	mustWait(t, env)
	if got := mustRun(t, env, "cat", env.Dir+"/input").stdout.String(); got != "hello" {
		t.Errorf("the command read %q", got)
	}
}

func attachEndsWithTheCommand(t *testing.T, env GuestEnv) {
	main := gatedMain(env, "c1")
	main.Stdin = true
	mustStart(t, env, main)
	stdin, typing := io.Pipe()
	defer func() {
		if err := typing.Close(); err != nil {
			t.Error(err)
		}
	}()
	ended := make(chan error, 1)
	go func() { ended <- env.Guest.AttachMain(t.Context(), env.Answering, "c1", stdin, nil) }()
	if _, err := io.WriteString(typing, "attached"); err != nil {
		t.Fatal(err)
	}
	openGate(t, env)
	if err := <-ended; err != nil {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := env.Guest.AttachMain(ctx, env.Answering, "c1", stdin, nil); !errdefs.IsCanceled(err) {
		t.Errorf("with an ended context: %v", err)
	}
}

func ackForgetsAndPowersOff(t *testing.T, env GuestEnv) {
	mustStart(t, env, vm.Main{ID: "c1", Process: vm.Process{Args: []string{"true"}}})
	mustWait(t, env)
	if err := env.Guest.AckMain(t.Context(), env.Answering, "c1"); err != nil {
		t.Fatal(err)
	}
	env.PoweredOff()
}

func portIsReached(t *testing.T, env GuestEnv) {
	conn, err := env.Guest.Dial(t.Context(), env.Answering, env.Echo)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}()
	const text = "through the loopback"
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		t.Fatal("the connection has no halves")
	}
	if err := half.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != text {
		t.Errorf("%q, %v", got, err)
	}
}

func closedPortIsUnavailable(t *testing.T, env GuestEnv) {
	if _, err := env.Guest.Dial(t.Context(), env.Answering, env.Closed); !errdefs.IsUnavailable(err) {
		t.Errorf("got %v", err)
	}
}
