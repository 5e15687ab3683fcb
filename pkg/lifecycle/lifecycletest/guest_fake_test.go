// SPDX-License-Identifier: Apache-2.0

package lifecycletest_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/vmlet/vmlet/pkg/lifecycle/lifecycletest"
	"github.com/vmlet/vmlet/pkg/vm"
)

func TestFakeGuestAgentKeepsTheContract(t *testing.T) {
	lifecycletest.RunGuestAgent(t, func(t *testing.T) lifecycletest.GuestAgentEnv {
		t.Helper()
		g := lifecycletest.NewGuestAgent()
		g.SetExec(runHere)
		g.SetSilent("silent", true)
		return lifecycletest.GuestAgentEnv{Agent: g, Answering: "a", Silent: "silent", Dir: t.TempDir()}
	})
}

// runHere takes this host for the guest.
func runHere(ctx context.Context, _ string, req vm.ExecRequest) (vm.ExecResult, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, req.Command[0], req.Command[1:]...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = os.Environ()
	for _, v := range req.Env {
		cmd.Env = append(cmd.Env, v.Name+"="+v.Value)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err := cmd.Run()
	res := vm.ExecResult{Stdout: stdout.Bytes(), Stderr: stderr.Bytes()}
	exit, ok := errors.AsType[*exec.ExitError](err)
	switch {
	case ctx.Err() != nil:
		return vm.ExecResult{}, ctx.Err()
	case errors.Is(err, os.ErrNotExist):
		return vm.ExecResult{ExitCode: 127, Stderr: []byte(err.Error())}, nil
	case !ok:
		return res, err
	}
	res.ExitCode = int32(exit.ExitCode())
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		res.ExitCode = 128 + int32(status.Signal())
	}
	return res, nil
}
