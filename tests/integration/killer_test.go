// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// killer kills vmlet with SIGKILL at its failpoints.
type killer struct {
	t    *testing.T
	node *harness.Node
	// kill names the failpoint that vmlet dies at, record has those that it has passed.
	kill, record string
	// born is how many it had passed in all its lives when the present one began.
	born int
	// died says that it did, since it was armed.
	died bool
	// every has survives kill at every so many failpoints, unless killsEnv is set; 0 for each of them.
	every int
}

// killsEnv has tests that only look at some failpoints, since another one goes through the same, look at all of them:
//
//	VMLET_ALL_KILLS=1 go test -tags integration -run TestArktosVMCallsKilledAtEveryStep ./tests/integration
const killsEnv = "VMLET_ALL_KILLS"

// skips tells whether the i-th failpoint is not looked at.
func (k *killer) skips(i int) bool { return k.every > 1 && i%k.every > 0 && os.Getenv(killsEnv) == "" }

// newKiller is one without a node yet, which is to be started with watched.
func newKiller(t *testing.T) *killer {
	t.Helper()
	dir := t.TempDir()
	return &killer{t: t, kill: filepath.Join(dir, "kill"), record: filepath.Join(dir, "record")}
}

func (k *killer) watched() harness.NodeOption {
	return harness.WithEnv("VMLET_FAILPOINT_KILL="+k.kill, "VMLET_FAILPOINT_RECORD="+k.record)
}

// passes lists the failpoints that are passed meanwhile; fewer than least are a failure.
func (k *killer) passes(least int, do func()) []string {
	k.t.Helper()
	so := len(lines(k.t, k.record))
	do()
	marks := lines(k.t, k.record)[so:]
	if len(marks) < least {
		k.t.Fatalf("only %d failpoints were passed: %v", len(marks), marks)
	}
	k.t.Log(marks)
	return marks
}

// fresh gives the node another process: what the present one does in the background, such as tidying layers, is done with it.
func (k *killer) fresh() {
	k.t.Helper()
	k.node.Stop()
	k.born = len(lines(k.t, k.record))
	k.node.Start()
}

// arm has vmlet die at the i-th of the marks that it is about to pass.
func (k *killer) arm(marks []string, i int) {
	k.t.Helper()
	k.died = false
	pass := 1 + count(lines(k.t, k.record)[k.born:], marks[i]) + count(marks[:i], marks[i])
	if err := os.WriteFile(k.kill, fmt.Appendf(nil, "%s %d", marks[i], pass), 0o600); err != nil {
		k.t.Fatal(err)
	}
}

// revive starts vmlet again when it has died.
func (k *killer) revive() {
	k.t.Helper()
	select {
	case <-k.node.Exited():
	case <-time.After(20 * time.Second):
		k.t.Fatal("vmlet has not died")
	}
	k.died = true
	k.disarm()
	k.fresh() // and the node forgets the dead one
}

func (k *killer) disarm() {
	k.t.Helper()
	if err := os.Remove(k.kill); err != nil && !errors.Is(err, os.ErrNotExist) {
		k.t.Fatal(err)
	}
}

// mustHaveDied is a failure where the i-th mark was not reached.
func (k *killer) mustHaveDied(marks []string, i int) {
	k.t.Helper()
	if !k.died {
		k.t.Errorf("failpoint %s, the %d. of %v, was never reached", marks[i], i+1, marks)
		k.disarm()
	}
}

// dieAt has vmlet die in a call, or right after its answer, at the i-th of the marks that it passes, and starts it again.
func (k *killer) dieAt(marks []string, i int, call func() error) {
	k.t.Helper()
	k.arm(marks, i)
	err := call()
	select {
	case <-k.node.Exited():
	case <-time.After(20 * time.Second):
		k.t.Fatalf("failpoint %s, the %d. of %v, was never reached: %v", marks[i], i+1, marks, err)
	}
	k.revive()
}

// killedCall is a call about a VM that vmlet is killed in. before makes what it works on, after proves what it has done.
type killedCall struct {
	name   string
	before func()
	call   func() error
	after  func()
}

// survives has vmlet die at each failpoint that the calls pass. Its next life finishes what was begun, or undoes it; the
// container runs throughout, and the call can be repeated.
func (k *killer) survives(pod *harness.Running, calls []killedCall) {
	k.t.Helper()
	marks := map[string][]string{}
	for _, c := range calls {
		c.before()
		marks[c.name] = k.passes(1, func() {
			if err := c.call(); err != nil {
				k.t.Fatal(c.name, err)
			}
		})
		c.after()
	}
	for _, c := range calls {
		for i, mark := range marks[c.name] {
			if k.skips(i) {
				continue
			}
			c.before()
			k.fresh()
			k.dieAt(marks[c.name], i, c.call)
			if st := pod.Status(); st.GetState() != runtimeapi.ContainerState_CONTAINER_RUNNING {
				k.t.Fatalf("%s, killed at %s: the container is %s: %s", c.name, mark, st.GetState(), st.GetMessage())
			}
			// What was begun is finished, or was never begun; or it is done again.
			err := c.call()
			if code := status.Code(err); err != nil && code != codes.AlreadyExists && code != codes.NotFound {
				k.t.Fatalf("%s, killed at %s: again: %v", c.name, mark, err)
			}
			c.after()
		}
	}
}

func count(all []string, one string) (n int) {
	for _, s := range all {
		if s == one {
			n++
		}
	}
	return n
}
