// SPDX-License-Identifier: Apache-2.0

// Package guesttest lets tests of the agent change what they take for the guest.
package guesttest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

const inside = "VMLET_AGENT_TEST_INSIDE"

// Run runs the tests of a package, m.Run, in mount, UTS and PID namespaces of their own, with
// a /proc that shows these. Without root it runs them where they are. For TestMain.
func Run(run func() int) {
	if os.Geteuid() != 0 {
		os.Exit(run())
	}
	if os.Getenv(inside) != "" {
		if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
			fmt.Fprintln(os.Stderr, "mount /proc:", err)
			os.Exit(1)
		}
		os.Exit(run())
	}
	os.Exit(again())
}

func again() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...) //nolint:noctx // it ends when the tests do, or with their parent
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:   syscall.CLONE_NEWUTS | syscall.CLONE_NEWPID,
		Unshareflags: syscall.CLONE_NEWNS,
		Pdeathsig:    syscall.SIGKILL,
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	default:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
}
