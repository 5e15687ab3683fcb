// SPDX-License-Identifier: Apache-2.0

package vmagent

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/agentlink"
	"github.com/vmlet/vmlet/pkg/vm"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// process puts a process into the protocol's words. Errors hold no values.
func process(p vm.Process) (*agentv1.Process, error) {
	if len(p.Args) == 0 || p.Args[0] == "" {
		return nil, fmt.Errorf("no command: %w", errdefs.ErrInvalidArgument)
	}
	out := &agentv1.Process{Args: p.Args, Cwd: p.WorkingDir, Tty: p.TTY, Namespace: p.Namespace, Security: security(p.Security)}
	for _, arg := range p.Args {
		if strings.ContainsRune(arg, 0) {
			return nil, fmt.Errorf("an argument holds a zero byte: %w", errdefs.ErrInvalidArgument)
		}
	}
	for _, v := range p.Env {
		if v.Name == "" || strings.ContainsAny(v.Name, "=\x00") || strings.ContainsRune(v.Value, 0) {
			return nil, fmt.Errorf("environment variable %q: no name, an equals sign in it, or a zero byte: %w",
				v.Name, errdefs.ErrInvalidArgument)
		}
		out.Env = append(out.Env, v.Name+"="+v.Value)
	}
	return out, nil
}

func security(s *vm.Security) *agentv1.Security {
	if s == nil {
		return nil
	}
	return &agentv1.Security{
		User: s.User, Group: s.Group, SupplementalGroups: s.SupplementalGroups, StrictGroups: s.StrictGroups,
		LimitCapabilities: s.Capabilities != nil, Capabilities: s.Capabilities, AmbientCapabilities: s.Ambient,
		NoNewPrivileges: s.NoNewPrivileges, Seccomp: s.Seccomp,
		ReadonlyRoot: s.ReadonlyRoot, MaskedPaths: s.MaskedPaths, ReadonlyPaths: s.ReadonlyPaths,
	}
}

func size(t vm.TerminalSize) *agentv1.TerminalSize {
	return &agentv1.TerminalSize{Width: uint32(t.Width), Height: uint32(t.Height)}
}

// exitCode checks how a process ended.
func exitCode(e *agentv1.Exit) (int32, error) {
	switch {
	case e == nil:
		return 0, nonsense(errors.New("an exit without a code"))
	case e.GetCode() < 0 || e.GetCode() > 255:
		return 0, nonsense(fmt.Errorf("exit code %d", e.GetCode()))
	case e.GetSignal() < 0 || e.GetSignal() > 127:
		return 0, nonsense(fmt.Errorf("signal %d", e.GetSignal()))
	}
	return e.GetCode(), nil
}

// mainExit checks the exit of the command with that ID.
func mainExit(e *agentv1.MainExit, mainID string) (vm.MainExit, error) {
	if e == nil || e.GetId() != mainID {
		return vm.MainExit{}, nonsense(errors.New("the exit of another command"))
	}
	code, err := exitCode(e.GetExit())
	if err != nil {
		return vm.MainExit{}, err
	}
	return vm.MainExit{
		Code: code, Signal: e.GetExit().GetSignal(), OOMKilled: e.GetExit().GetOomKilled(),
		StartError: agentlink.Printable(e.GetStartError(), maxText),
		At:         time.Unix(0, e.GetExit().GetAtUnixNano()), TerminationLog: e.GetTerminationLog(),
	}, nil
}
