// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/process"
	"github.com/vmlet/vmlet/pkg/agentlink"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// linger is how long what a process left running in the background may go on writing to its
// output before the call ends without it.
const linger = time.Second

// firstPiece is the buffer for an output that may be short: most are.
const firstPiece = 2 << 10

// exec runs a process for as long as the caller wants it.
func (s *Server) exec(ctx context.Context, st *agentlink.Stream, req *agentv1.ExecRequest) error {
	proc, err := s.Starter.Start(req.GetProcess(), req.GetStdin())
	if notStarted, ok := errors.AsType[*process.Error](err); ok {
		return failedExec(st, notStarted)
	}
	if err != nil {
		return err
	}
	x := &execution{proc: proc, st: st, log: s.Log}
	defer x.close()
	if err := st.Send(&agentv1.Reply{}); err != nil {
		x.kill()
		return nil // nobody is there to be told
	}
	if timeout := time.Duration(req.GetTimeoutNano()); timeout > 0 {
		defer time.AfterFunc(timeout, x.timeOut).Stop()
	}
	defer context.AfterFunc(ctx, x.kill)()
	go x.listen(ctx)
	x.copyOutput()
	_ = st.Send(x.exit()) //nolint:errcheck // who asked has gone
	return nil
}

// failedExec tells what a shell would: on standard error, and by its exit code.
func failedExec(st *agentlink.Stream, err *process.Error) error {
	return errors.Join(
		st.Send(&agentv1.Reply{}),
		st.Send(&agentv1.FromProcess{What: &agentv1.FromProcess_Stderr{Stderr: []byte("vmlet-agent: " + err.Error() + "\n")}}),
		st.Send(&agentv1.FromProcess{What: &agentv1.FromProcess_Exit{
			Exit: &agentv1.Exit{Code: err.Code, AtUnixNano: time.Now().UnixNano()},
		}}),
	)
}

// execution is a process with its caller.
type execution struct {
	proc     *process.Process
	st       *agentlink.Stream
	log      func(error)
	killed   atomic.Bool
	timedOut atomic.Bool
}

// kill ends the process and all of its session.
func (x *execution) kill() {
	x.killed.Store(true)
	if err := x.proc.Kill(); err != nil {
		x.log(err)
	}
	x.finish()
}

// timeOut kills the process if it has not ended.
func (x *execution) timeOut() {
	select {
	case <-x.proc.Done():
	default:
		x.timedOut.Store(true)
		x.kill()
	}
}

func (x *execution) finish() {
	for _, out := range x.proc.Outputs() {
		out.Finish()
	}
}

// listen does what the caller says, until it has nothing more to say: then the process goes.
func (x *execution) listen(ctx context.Context) {
	err := receive(ctx, x.st, receiver{
		stdin: func(b []byte) error {
			if x.proc.Stdin == nil {
				return nil
			}
			_, err := x.proc.Stdin.Write(b)
			return err
		},
		closeStdin: func() {
			if x.proc.Stdin != nil && x.proc.Stderr != nil { // a terminal's is its output
				_ = x.proc.Stdin.Close() //nolint:errcheck // what was written is in the pipe
			}
		},
		resize: x.proc.Resize,
	})
	if err != nil && ctx.Err() == nil {
		x.log(err)
	}
	select {
	case <-x.proc.Done():
	default:
		x.kill()
	}
}

// copyOutput sends all output, up to the end of the process.
func (x *execution) copyOutput() {
	var copying sync.WaitGroup
	wrap := []func([]byte) *agentv1.FromProcess{
		func(b []byte) *agentv1.FromProcess {
			return &agentv1.FromProcess{What: &agentv1.FromProcess_Stdout{Stdout: b}}
		},
		func(b []byte) *agentv1.FromProcess {
			return &agentv1.FromProcess{What: &agentv1.FromProcess_Stderr{Stderr: b}}
		},
	}
	for i, out := range x.proc.Outputs() {
		copying.Go(func() { x.copyOne(out, wrap[i]) })
	}
	<-x.proc.Done()
	defer time.AfterFunc(linger, x.finish).Stop()
	if x.killed.Load() {
		x.finish()
	}
	copying.Wait()
}

// copyOne sends one output. The process waits while the caller takes none.
func (x *execution) copyOne(out *process.Output, wrap func([]byte) *agentv1.FromProcess) {
	buf := make([]byte, firstPiece)
	for {
		n, err := out.Read(buf)
		if n > 0 && x.st.Send(wrap(buf[:n])) != nil {
			x.kill() // nobody is there to read it
			return
		}
		if err != nil {
			return
		}
		if n == len(buf) && n < agentlink.MaxPiece {
			buf = make([]byte, agentlink.MaxPiece)
		}
	}
}

func (x *execution) exit() *agentv1.FromProcess {
	e := x.proc.Exit()
	return &agentv1.FromProcess{What: &agentv1.FromProcess_Exit{Exit: &agentv1.Exit{
		Code: e.Code, Signal: e.Signal, TimedOut: x.timedOut.Load(), AtUnixNano: e.At.UnixNano(),
	}}}
}

// close lets go of the agent's ends.
func (x *execution) close() {
	if x.proc.Stdin != nil {
		_ = x.proc.Stdin.Close() //nolint:errcheck // the process has ended
	}
	for _, out := range x.proc.Outputs() {
		_ = out.Close() //nolint:errcheck // read to its end
	}
}
