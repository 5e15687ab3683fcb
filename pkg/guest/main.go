// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"fmt"
	"io"

	"github.com/vmlet/vmlet/pkg/vm"
)

// commands is what vmlet-agent is needed for, in the words of errors.
const commands = "a container's command"

// StartMain starts the container's command, once.
func (g *Guest) StartMain(ctx context.Context, id string, m vm.Main) error {
	err := g.need(ctx, id, commands)
	if err == nil {
		err = g.agents.StartMain(ctx, id, m)
	}
	return wrap("start the command of", m.ID, err)
}

// WaitMain returns when the command has ended.
func (g *Guest) WaitMain(ctx context.Context, id, mainID string) (vm.MainExit, error) {
	err := g.need(ctx, id, commands)
	if err != nil {
		return vm.MainExit{}, wrap("wait for the command of", mainID, err)
	}
	exit, err := g.agents.WaitMain(ctx, id, mainID)
	return exit, wrap("wait for the command of", mainID, err)
}

// AckMain lets the agent forget the exit and power the guest off.
func (g *Guest) AckMain(ctx context.Context, id, mainID string) error {
	err := g.need(ctx, id, commands)
	if err == nil {
		err = g.agents.AckMain(ctx, id, mainID)
	}
	return wrap("acknowledge the end of the command of", mainID, err)
}

// SignalMain sends the command a signal.
func (g *Guest) SignalMain(ctx context.Context, id, mainID, signal string) error {
	err := g.need(ctx, id, commands)
	if err == nil {
		err = g.agents.SignalMain(ctx, id, mainID, signal)
	}
	return wrap("send "+signal+" to the command of", mainID, err)
}

// AttachMain gives the command input.
func (g *Guest) AttachMain(ctx context.Context, id, mainID string, stdin io.Reader, resize <-chan vm.TerminalSize) error {
	err := g.need(ctx, id, commands)
	if err == nil {
		err = g.agents.AttachMain(ctx, id, mainID, stdin, resize)
	}
	return wrap("attach to the command of", mainID, err)
}

func wrap(operation, id string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", operation, id, err)
}
