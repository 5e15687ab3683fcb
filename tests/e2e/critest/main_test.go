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
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/tests/harness"
)

// hostVar holds the process whose mount namespace stands for the host's; it is empty in that
// process itself.
const hostVar = "VMLET_CRITEST_HOST"

// TestMain runs the tests in namespaces of their own, since some specs mount file systems or
// make shared memory, and leave them there:
//
//	this process -> the suite's "host" -> the node's mount namespace, its slave
//
// The suite works in the first, as a kubelet does on the host. The node is in the second, as
// in a container that the host's mounts propagate to.
func TestMain(m *testing.M) {
	host, inside := os.LookupEnv(hostVar)
	var err error
	switch {
	case !inside:
		err = again("", &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC})
	case host == "":
		if err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err == nil {
			err = again(strconv.Itoa(os.Getpid()), &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS})
		}
	default:
		if err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err == nil {
			harness.Main(m)
		}
	}
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

// again runs this very binary in other namespaces.
func again(host string, attr *syscall.SysProcAttr) error {
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), hostVar+"="+host)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = attr
	cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	return cmd.Run()
}
