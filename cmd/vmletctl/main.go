// SPDX-License-Identifier: Apache-2.0

// Command vmletctl runs and looks after VM pods on this node by hand. It speaks gRPC only,
// the CRI and vmlet.v1, on vmlet's socket: it sees what every other client sees.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.Getenv, now: time.Now, poll: time.Second}
	code := a.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
