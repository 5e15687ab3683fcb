// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/process"
	"github.com/vmlet/vmlet/pkg/agentlink/record"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// attend sees a command to its end: all it wrote is with QEMU before its exit is told.
func (r *Runner) attend(c *command, req *agentv1.StartMainRequest) {
	var copying sync.WaitGroup
	for i, out := range c.proc.Outputs() {
		copying.Go(func() { r.copy(out, []record.Flags{0, record.Stderr}[i]) })
	}
	exit := c.proc.Exit()
	// As in a container, nothing survives the main process.
	if err := c.proc.Kill(); err != nil {
		r.Log(fmt.Errorf("command %s: %w", c.id, err))
	}
	for _, out := range c.proc.Outputs() {
		out.Finish()
	}
	copying.Wait()
	if c.input != nil {
		c.input.close()
	}
	c.exit = &agentv1.MainExit{Id: c.id, Exit: &agentv1.Exit{
		Code: exit.Code, Signal: exit.Signal, AtUnixNano: exit.At.UnixNano(), OomKilled: killedForMemory(c.proc, exit),
	}}
	if path := req.GetTerminationLog(); path != "" {
		err := r.Namespaces.Do(req.GetProcess().GetNamespace(), func() (err error) {
			c.exit.TerminationLog, err = tail(path, maxTerminationLog)
			return err
		})
		if err != nil {
			r.Log(fmt.Errorf("command %s: termination log: %w", c.id, err))
		}
	}
	if err := r.journal.end(c.exit); err != nil {
		r.Log(fmt.Errorf("command %s: journal: %w", c.id, err))
	}
	close(c.done)
}

// copy copies an output to the port, or, where that fails, to nowhere: a command that nobody
// hears is not to be stopped by it.
func (r *Runner) copy(out *process.Output, stream record.Flags) {
	err := r.port.Copy(out, stream)
	if err != nil {
		r.Log(err)
		_, err = io.Copy(io.Discard, out)
	}
	if err = errors.Join(err, out.Close()); err != nil {
		r.Log(err)
	}
}
