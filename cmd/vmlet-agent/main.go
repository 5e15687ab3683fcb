// SPDX-License-Identifier: Apache-2.0

// vmlet-agent is vmlet's hand in a guest: it serves the calls of proto/agent/v1 on the
// virtio-serial port org.vmlet.agent.0. docs/reference/agent.md says what a guest needs for
// it.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/process"
	"github.com/vmlet/vmlet/pkg/version"
)

func main() { os.Exit(start()) }

// start returns the exit code.
func start() int {
	log.SetFlags(0)
	log.SetPrefix("vmlet-agent: ")
	switch args := os.Args[1:]; {
	case slices.Equal(args, []string{process.Stage2Arg}):
		return process.Stage2()
	case slices.Equal(args, []string{"version"}):
		fmt.Println(version.Version)
		return 0
	case len(args) > 0:
		fmt.Fprintln(os.Stderr, "usage: vmlet-agent [version]")
		return 2
	}
	// Children do not inherit what is caught here, as they would what the agent was started
	// to ignore; nobody hangs up on the agent.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, config{runDir: "/run/vmlet-agent"}); err != nil && !errors.Is(err, context.Canceled) {
		log.Print(err)
		return 1
	}
	return 0
}
