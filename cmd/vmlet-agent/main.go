// SPDX-License-Identifier: Apache-2.0

// vmlet-agent is vmlet's hand in a guest: it serves the calls of proto/agent/v1 on the
// virtio-serial port org.vmlet.agent.0. docs/reference/agent.md says what a guest needs for
// it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/process"
	"github.com/vmlet/vmlet/pkg/version"
)

func main() { os.Exit(start()) }

// start returns the exit code.
func start() int {
	log.SetFlags(0)
	log.SetPrefix("vmlet-agent: ")
	if len(os.Args) == 2 {
		switch os.Args[1] {
		case process.Stage2Arg:
			return process.Stage2()
		case "version":
			fmt.Println(version.Version)
			return 0
		}
	}
	c := config{}
	flag.StringVar(&c.port, "port", "", "device of the agent's port, instead of the one named "+agentPort)
	flag.StringVar(&c.outputPort, "output-port", "", "device of the port for a command's output, instead of the one named "+outputPort)
	flag.StringVar(&c.runDir, "run-dir", "/run/vmlet-agent", "folder in memory")
	flag.Parse()
	if flag.NArg() > 0 {
		log.Printf("%q: no arguments but version", flag.Args())
		return 2
	}
	// Children do not inherit what is caught here, as they would what the agent was started
	// to ignore; nobody hangs up on the agent.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, c); err != nil && !errors.Is(err, context.Canceled) {
		log.Print(err)
		return 1
	}
	return 0
}
