// SPDX-License-Identifier: Apache-2.0

//go:build integration

// Package critest runs cri-tools' validation suite against a real node. Which of its specs
// must pass is in passing.txt, which need not, and why, in skipped.txt.
package critest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/vmlet/vmlet/tests/harness"
)

// insideVar marks the process that runs in namespaces of the suite's own.
const insideVar = "VMLET_CRITEST_INSIDE"

// TestMain runs the tests, and the node with them, in mount and IPC namespaces of their own:
// some specs mount file systems that the node has to see, or make shared memory, and leave
// them there.
func TestMain(m *testing.M) {
	if os.Getenv(insideVar) != "" {
		harness.Main(m)
	}
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVar+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC, Pdeathsig: syscall.SIGTERM}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		os.Exit(0)
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	}
	fmt.Fprintln(os.Stderr, "critest: these tests need root:", err)
	os.Exit(1)
}
