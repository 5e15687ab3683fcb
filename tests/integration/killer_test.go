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
}

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

func count(all []string, one string) (n int) {
	for _, s := range all {
		if s == one {
			n++
		}
	}
	return n
}
