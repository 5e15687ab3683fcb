// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"bytes"
	"context"
	"maps"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

// GuestEnv is a lifecycle.Guest under test, with guests that run real commands.
type GuestEnv struct {
	Guest lifecycle.Guest
	// Answering is a sandbox whose guest has vmlet-agent, with a POSIX shell, cat, head and
	// sleep. Silent is one whose guest has none.
	Answering, Silent string
	// Dir is a folder that commands in the answering guest can write to.
	Dir string
	// Echo is a port of the guest's loopback that sends back what comes, and then closes;
	// Closed is one that nothing listens on.
	Echo, Closed uint16
	// Reboot boots the answering guest anew. Hangup ends the session, as a crash would.
	Reboot, Hangup func()
	// PoweredOff returns once the guest was told to power off.
	PoweredOff func()
	// User is a user of the answering guest, who has no authorized keys yet.
	User string
	// Entries fails the test unless a folder of the answering guest has these entries. May be nil.
	Entries func(folder string, want ...string)
}

// RunGuest is the contract of lifecycle.Guest but for the pod's files and shares. open returns a new
// environment; the contract connects its guests.
func RunGuest(t *testing.T, open func(t *testing.T) GuestEnv) {
	t.Helper()
	contract := map[string]func(*testing.T, GuestEnv){
		"an answering agent has a boot ID":                 agentHasABootID,
		"connecting twice is connecting once":              connectIsIdempotent,
		"a silent guest is waited for until the end":       silentGuestIsWaitedFor,
		"a silent guest cannot be shut down":               silentGuestHasNoShutdown,
		"a reboot is told, and has another boot ID":        rebootIsTold,
		"an agent that comes or goes is told":              agentsAreTold,
		"a session's end is no reboot":                     hangupIsNoReboot,
		"setting up is idempotent":                         setupIsIdempotent,
		"stdout, stderr and exit code come back exactly":   resultIsExact,
		"arguments reach the process as they are":          argumentsAreNotInterpreted,
		"the environment reaches the process":              environmentReachesProcess,
		"much output comes back whole":                     muchOutputIsWhole,
		"standard input reaches the process, and its end":  inputReachesProcess,
		"a process that does not exist has a code":         unknownProcessHasACode,
		"no process is InvalidArgument":                    noProcessIsInvalid,
		"at the deadline the process is killed":            deadlineKills,
		"a cancelled call kills the process":               cancelKills,
		"an output that fails kills the process":           failedOutputKills,
		"a process that nobody reads holds up no other":    stalledReaderHoldsUpNobody,
		"processes in one guest do not wait for another":   processesOverlap,
		"a command runs once, and its exit is held":        commandRunsOnce,
		"a command outlives sessions":                      commandOutlivesSessions,
		"a command that cannot be started has an exit":     commandThatIsNotThere,
		"a second command waits for the first":             secondCommandIsRefused,
		"an unknown command is NotFound":                   unknownCommandIsNotFound,
		"a command is gone after a reboot":                 rebootForgetsTheCommand,
		"a signal reaches the command":                     signalReachesCommand,
		"an attached client gives the command input":       attachGivesInput,
		"an attached client is let go with the command":    attachEndsWithTheCommand,
		"an acknowledged exit is forgotten, the guest off": ackForgetsAndPowersOff,
		"a port of the guest is reached, halves apart":     portIsReached,
		"a port that nobody listens on is Unavailable":     closedPortIsUnavailable,
		"a guest says what it is":                          guestSaysWhatItIs,
		"disconnecting ends the calls":                     disconnectEndsCalls,
	}
	maps.Copy(contract, guestCalls())
	maps.Copy(contract, guestStill())
	for name, run := range contract {
		t.Run(name, func(t *testing.T) {
			env := open(t)
			env.Guest.Connect(env.Answering)
			env.Guest.Connect(env.Silent)
			t.Cleanup(func() {
				env.Guest.Disconnect(env.Answering)
				env.Guest.Disconnect(env.Silent)
			})
			run(t, env)
		})
	}
}

func mustAwait(t *testing.T, env GuestEnv) string {
	t.Helper()
	boot, err := env.Guest.AwaitAgent(t.Context(), env.Answering)
	if err != nil {
		t.Fatal(err)
	}
	return boot
}

// ran is a process that has ended.
type ran struct {
	stdout, stderr bytes.Buffer
	code           int32
}

func mustRun(t *testing.T, env GuestEnv, args ...string) *ran {
	t.Helper()
	return mustRunProcess(t, env, vm.Process{Args: args}, nil)
}

func mustRunProcess(t *testing.T, env GuestEnv, p vm.Process, stdin []byte) *ran {
	t.Helper()
	r := &ran{}
	s := vm.Streams{Stdout: &r.stdout, Stderr: &r.stderr}
	if stdin != nil {
		s.Stdin = bytes.NewReader(stdin)
	}
	var err error
	if r.code, err = env.Guest.Exec(t.Context(), env.Answering, p, s); err != nil {
		t.Fatal(err)
	}
	return r
}

func agentHasABootID(t *testing.T, env GuestEnv) {
	first := mustAwait(t, env)
	if first == "" || mustAwait(t, env) != first {
		t.Errorf("boot ID %q, then %q", first, mustAwait(t, env))
	}
	if ours, err := env.Guest.AwaitAny(t.Context(), env.Answering); err != nil || !ours {
		t.Errorf("it is not vmlet-agent: %v", err)
	}
}

func connectIsIdempotent(t *testing.T, env GuestEnv) {
	mustAwait(t, env)
	env.Guest.Connect(env.Answering)
	mustAwait(t, env)
	env.Guest.Disconnect(env.Answering)
	env.Guest.Disconnect(env.Answering)
	env.Guest.Connect(env.Answering)
	mustAwait(t, env)
}

func silentGuestIsWaitedFor(t *testing.T, env GuestEnv) {
	const patience = 200 * time.Millisecond
	for name, call := range map[string]func(context.Context) error{
		"AwaitAgent": func(ctx context.Context) error {
			_, err := env.Guest.AwaitAgent(ctx, env.Silent)
			return err
		},
		"AwaitAny": func(ctx context.Context) error {
			_, err := env.Guest.AwaitAny(ctx, env.Silent)
			return err
		},
		"Exec": func(ctx context.Context) error {
			_, err := env.Guest.Exec(ctx, env.Silent, vm.Process{Args: []string{"true"}}, vm.Streams{})
			return err
		},
		"StartMain": func(ctx context.Context) error {
			return env.Guest.StartMain(ctx, env.Silent, vm.Main{ID: "c", Process: vm.Process{Args: []string{"true"}}})
		},
		"WaitMain": func(ctx context.Context) error {
			_, err := env.Guest.WaitMain(ctx, env.Silent, "c")
			return err
		},
		"Dial": func(ctx context.Context) error {
			_, err := env.Guest.Dial(ctx, env.Silent, env.Echo)
			return err
		},
		"Info": func(ctx context.Context) error {
			_, err := env.Guest.Info(ctx, env.Silent)
			return err
		},
		"SetPassword": func(ctx context.Context) error {
			return env.Guest.SetPassword(ctx, env.Silent, vm.GuestPassword{User: "root", Password: "secret"})
		},
	} {
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := call(ctx)
		if !errdefs.IsDeadlineExceeded(err) || !errdefs.IsUnavailable(err) {
			t.Errorf("%s: %v", name, err)
		}
		if waited := time.Since(began); waited < patience {
			t.Errorf("%s gave up after %v", name, waited)
		}
		cancel()
	}
}

func silentGuestHasNoShutdown(t *testing.T, env GuestEnv) {
	if err := env.Guest.Reboot(t.Context(), env.Silent); !errdefs.IsUnavailable(err) {
		t.Errorf("Reboot: %v", err)
	}
	if err := env.Guest.Shutdown(t.Context(), env.Silent); !errdefs.IsUnavailable(err) {
		t.Errorf("got %v", err)
	}
}

func rebootIsTold(t *testing.T, env GuestEnv) {
	first := mustAwait(t, env)
	env.Reboot()
	if id := <-env.Guest.Reboots(); id != env.Answering {
		t.Errorf("a reboot of %s", id)
	}
	if second := mustAwait(t, env); second == first {
		t.Errorf("boot ID %q again", second)
	}
}

func hangupIsNoReboot(t *testing.T, env GuestEnv) {
	first := mustAwait(t, env)
	hangUp(t, env)
	if again := mustAwait(t, env); again != first {
		t.Errorf("boot ID %q, then %q", first, again)
	}
	select {
	case id := <-env.Guest.Reboots():
		t.Errorf("a reboot of %s", id)
	default:
	}
}

func setupIsIdempotent(t *testing.T, env GuestEnv) {
	for range 2 {
		if err := env.Guest.Setup(t.Context(), env.Answering, vm.GuestSetup{Hostname: "contract"}); err != nil {
			t.Error(err)
		}
	}
}

func guestSaysWhatItIs(t *testing.T, env GuestEnv) {
	if info, err := env.Guest.Info(t.Context(), env.Answering); err != nil || info.BootID == "" {
		t.Errorf("%+v, %v", info, err)
	}
}

func disconnectEndsCalls(t *testing.T, env GuestEnv) {
	mustAwait(t, env)
	ended := make(chan error, 1)
	go func() {
		_, err := env.Guest.Exec(t.Context(), env.Answering, vm.Process{
			Args: []string{"/bin/sh", "-c", `: >"$0"; exec sleep 1000`, env.Dir + "/runs"},
		}, vm.Streams{})
		ended <- err
	}()
	awaitFile(t, env, env.Dir+"/runs")
	env.Guest.Disconnect(env.Answering)
	if err := <-ended; err == nil {
		t.Error("the process is said to have ended well")
	}
}

// hangUp ends the session, and returns when there is another one: a call that is made just
// then may be the old one's still.
func hangUp(t *testing.T, env GuestEnv) {
	t.Helper()
	env.Hangup()
	for {
		_, err := env.Guest.Exec(t.Context(), env.Answering, vm.Process{Args: []string{"true"}}, vm.Streams{})
		if err == nil {
			return
		}
		if !errdefs.IsUnavailable(err) {
			t.Fatal(err)
		}
	}
}

// awaitFile returns once the guest has a file.
func awaitFile(t *testing.T, env GuestEnv, path string) {
	t.Helper()
	mustRun(t, env, "/bin/sh", "-c", `until [ -e "$0" ]; do sleep 0.05; done`, path)
}
