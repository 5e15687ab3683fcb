// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// command is the one process that the reaper starts itself. Only the main goroutine uses it.
type command struct {
	argv    []string
	pidFile string

	pid int // 0 while it does not run
	// pidfd names the very process: the number may belong to another one between its reaping and our hearing of it.
	pidfd int
}

func (c *command) running() bool { return c.pid != 0 }

// start runs the command with the reaper's own standard streams and writes the pid file.
func (c *command) start() error {
	path, err := exec.LookPath(c.argv[0])
	if err != nil {
		return fmt.Errorf("start %s: %w", c.argv[0], err)
	}
	pidfd := -1
	pid, err := syscall.ForkExec(path, c.argv, &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{0, 1, 2},
		Sys: &syscall.SysProcAttr{
			PidFD: &pidfd,
			// Without its reaper the command would run on unseen, and a new reaper would start a second one.
			Pdeathsig: syscall.SIGTERM,
		},
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", path, err)
	}
	c.pid, c.pidfd = pid, pidfd
	log.Printf("started %s, pid %d", path, pid)
	if c.pidFile == "" {
		return nil
	}
	if err := os.WriteFile(c.pidFile, []byte(strconv.Itoa(pid)+"\n"), 0o644); err != nil {
		return errors.Join(fmt.Errorf("record the pid: %w", err), c.terminate())
	}
	return nil
}

// terminate asks the command to end; it is no error if it has.
func (c *command) terminate() error {
	if !c.running() {
		return nil
	}
	err := unix.PidfdSendSignal(c.pidfd, unix.SIGTERM, nil, 0)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send SIGTERM to pid %d: %w", c.pid, err)
	}
	return nil
}

// exited takes note of e if it is the command's, and removes the pid file.
func (c *command) exited(e exit) error {
	if e.pid != c.pid {
		return nil
	}
	if e.status.Signaled() {
		log.Printf("%s, pid %d, was ended by signal %d (%s)", c.argv[0], e.pid, e.status.Signal(), e.status.Signal())
	} else {
		log.Printf("%s, pid %d, exited with status %d", c.argv[0], e.pid, e.status.ExitStatus())
	}
	err := unix.Close(c.pidfd)
	c.pid, c.pidfd = 0, -1
	if c.pidFile == "" {
		return err
	}
	if rmErr := os.Remove(c.pidFile); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
		err = errors.Join(err, rmErr)
	}
	return err
}
