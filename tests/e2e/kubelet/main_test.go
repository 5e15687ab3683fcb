// SPDX-License-Identifier: Apache-2.0

//go:build integration

// Package kubelet runs VM pods under a real kubelet without an API server: static pods, and kubelet's own server.
package kubelet

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/vmlet/vmlet/tests/harness"
)

// hostVar marks the process whose mount namespace stands for the host's.
const hostVar = "VMLET_KUBELET_HOST"

// TestMain runs the tests in a mount namespace of their own: kubelet has fixed paths and sets sysctls.
func TestMain(m *testing.M) {
	var err error
	if os.Getenv(hostVar) == "" {
		err = again()
	} else if err = harness.HideHost(); err == nil {
		harness.Main(m)
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		os.Exit(0)
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	}
	fmt.Fprintln(os.Stderr, "kubelet: these tests need root:", err)
	os.Exit(1)
}

// again runs this very binary in a mount namespace of its own.
func again() error {
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), hostVar+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	return cmd.Run()
}
