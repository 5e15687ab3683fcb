// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/call"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/command"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/disks"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/files"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/machine"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/mountns"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/nics"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/online"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/port"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/process"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/shares"
	"github.com/vmlet/vmlet/pkg/agentlink"
	"github.com/vmlet/vmlet/pkg/version"
)

// Names of the machine's ports.
const (
	agentPort  = "org.vmlet.agent.0"
	outputPort = "org.vmlet.output.0"
)

const (
	// pause is how long a port that failed is left alone.
	pause = time.Second
	// quiet is how long no call may have ended for the agent to be idle.
	quiet = 10 * time.Second
	// gcPercent: little memory, for a little more of the CPU while there is something to do.
	gcPercent = 50
)

// config is where the agent's things are.
type config struct {
	// outputPort is the device for a command's output, "" for the port of its name.
	outputPort string
	// runDir is a folder in memory.
	runDir string
}

// run serves until ctx ends.
func run(ctx context.Context, c config) error {
	if err := prepare(); err != nil {
		return err
	}
	guest := machine.New()
	boot, err := guest.BootID()
	if err != nil {
		return err
	}
	server, err := build(c, guest, boot)
	if err != nil {
		return err
	}
	defer func() {
		if _, err := server.Freezer.Thaw(); err != nil {
			log.Printf("left to the next agent to thaw: %v", err)
		}
	}()

	go online.New("/sys", func(err error) { log.Print(err) }).Run(ctx)

	// What a burst of calls took is given back to the guest after it.
	trim := time.AfterFunc(quiet, debug.FreeOSMemory)
	handle := func(ctx context.Context, st *agentlink.Stream) {
		defer trim.Reset(quiet)
		server.Serve(ctx, st)
	}
	info := agentlink.Info{BootID: boot, Version: version.Version, Features: call.Features}
	for {
		err := serve(ctx, info, handle)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		log.Print(err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// serve serves on the port until that fails.
func serve(ctx context.Context, info agentlink.Info, handle agentlink.Handler) error {
	path, err := port.Await(ctx, agentPort)
	if err != nil {
		return err
	}
	p, err := port.Open(path)
	if err != nil {
		return err
	}
	return agentlink.Serve(ctx, p, info, handle)
}

// prepare makes the agent what it is to be beside the guest's other processes.
func prepare() error {
	syscall.Umask(0o022)
	if os.Getenv("PATH") == "" {
		if err := os.Setenv("PATH", process.DefaultPath); err != nil {
			return err
		}
	}
	// A guest without memory is the time at which vmlet needs its agent. What the agent starts
	// is the kernel's again. Without the right to, it is as other processes are.
	err := os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0)
	if err != nil && !errors.Is(err, os.ErrPermission) {
		return err
	}
	debug.SetGCPercent(gcPercent)
	return nil
}

// build makes the server of the calls.
func build(c config, guest *machine.Machine, boot string) (*call.Server, error) {
	report := func(err error) { log.Print(err) }
	dir, err := bootDir(c.runDir, boot)
	if err != nil {
		return nil, err
	}
	freezer, err := machine.NewFreezer(guest, filepath.Join(dir, "frozen"), report)
	if err != nil {
		return nil, fmt.Errorf("thaw what was frozen: %w", err)
	}
	namespaces := mountns.NewSet()
	starter, err := process.NewStarter(namespaces)
	if err != nil {
		return nil, err
	}
	runner, err := command.New(command.Config{
		Starter: starter, Namespaces: namespaces, Dir: filepath.Join(dir, "command"), Log: report,
		OutputPort: func() string {
			if c.outputPort != "" {
				return c.outputPort
			}
			return port.Path(outputPort)
		},
	})
	if err != nil {
		return nil, err
	}
	return &call.Server{
		Starter: starter, Command: runner, Machine: guest, Freezer: freezer, Log: report, NICs: nics.New(),
		Shares: shares.New(namespaces, filepath.Join(dir, "share")),
		Files:  files.New(namespaces, filepath.Join(dir, "files")),
		Disks:  disks.New(),
	}, nil
}

// bootDir makes a folder of this boot's. What is there of another one is not in memory, as it
// should be, and is removed.
func bootDir(runDir, boot string) (string, error) {
	dir := filepath.Join(runDir, boot)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(runDir)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if e.Name() != boot {
			if err := os.RemoveAll(filepath.Join(runDir, e.Name())); err != nil {
				return "", err
			}
		}
	}
	return dir, nil
}
