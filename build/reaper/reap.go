// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// exit is one reaped process.
type exit struct {
	pid    int
	status unix.WaitStatus
}

// run becomes a subreaper, starts argv and serves signals until it is told to end and the command is gone.
func run(argv []string, pidFile string) error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a subreaper: %w", err)
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGHUP, unix.SIGTERM, unix.SIGINT)

	cmd := &command{argv: argv, pidFile: pidFile}
	if err := cmd.start(); err != nil {
		return err
	}
	started := make(chan struct{}, 1)
	exits := make(chan exit)
	go reap(started, exits)

	ending := false
	for {
		select {
		case e := <-exits:
			if err := cmd.exited(e); err != nil {
				log.Print(err)
			}
		case sig := <-signals:
			if sig != unix.SIGHUP {
				ending = true
				if err := cmd.terminate(); err != nil {
					log.Print(err)
				}
				break
			}
			if ending || cmd.running() {
				break
			}
			if err := cmd.start(); err != nil {
				log.Print(err)
				break
			}
			notify(started)
		}
		if ending && !cmd.running() {
			return nil
		}
	}
}

// reap waits for children for ever. Without any child there is nothing to adopt an orphan from, so it then sleeps until
// the command is started again.
func reap(started <-chan struct{}, exits chan<- exit) {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == nil:
			exits <- exit{pid: pid, status: status}
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ECHILD):
			<-started
		default:
			log.Fatalf("wait for children: %v", err)
		}
	}
}

// notify leaves one wake-up in c; a second one would say nothing new.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
