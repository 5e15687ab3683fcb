// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// What the kernel does with a system call: the upper half of a filter's result (seccomp(2)).
const (
	retKillProcess = 0x80000000
	retKillThread  = 0x00000000
	retTrap        = 0x00030000
	retErrno       = 0x00050000
	retTrace       = 0x7ff00000
	retLog         = 0x7ffc0000
	retAllow       = 0x7fff0000
	// retData is the lower half, which carries errno.
	retData = 0xffff
)

var actions = map[specs.LinuxSeccompAction]uint32{
	specs.ActKill:        retKillThread,
	specs.ActKillThread:  retKillThread,
	specs.ActKillProcess: retKillProcess,
	specs.ActTrap:        retTrap,
	specs.ActErrno:       retErrno,
	specs.ActTrace:       retTrace,
	specs.ActAllow:       retAllow,
	specs.ActLog:         retLog,
}

// result is an action as a filter returns it. errno counts for ERRNO and TRACE only.
func result(action specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	if action == specs.ActNotify {
		return 0, fmt.Errorf("%s needs a supervisor on the same kernel: %w", action, errdefs.ErrFailedPrecondition)
	}
	ret, ok := actions[action]
	if !ok {
		return 0, fmt.Errorf("action %q is unknown: %w", action, errdefs.ErrInvalidArgument)
	}
	if ret != retErrno && ret != retTrace {
		return ret, nil
	}
	data := uint(unix.EPERM)
	if errno != nil {
		data = *errno
	}
	if data > retData {
		return 0, fmt.Errorf("errno %d is out of range: %w", data, errdefs.ErrInvalidArgument)
	}
	return ret | uint32(data), nil
}

// clause is what becomes of a system call if all conditions hold.
type clause struct {
	conditions []specs.LinuxSeccompArg
	ret        uint32
}

// verdict is what becomes of a system call: the first clause that holds, or else otherwise.
type verdict struct {
	clauses   []clause
	otherwise uint32
	// named is set where the profile says otherwise.
	named bool
}

// rules are a profile for one architecture, by the system call's number.
type rules struct {
	byNumber map[int]*verdict
	fallback uint32
}

func rulesFor(p *specs.LinuxSeccomp, info *arch.Info) (rules, error) {
	fallback, err := result(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return rules{}, fmt.Errorf("defaultAction: %w", err)
	}
	r := rules{byNumber: map[int]*verdict{}, fallback: fallback}
	for i, call := range p.Syscalls {
		ret, err := result(call.Action, call.ErrnoRet)
		if err != nil {
			return rules{}, fmt.Errorf("syscalls[%d]: %w", i, err)
		}
		alternatives, err := split(call.Args)
		if err != nil {
			return rules{}, fmt.Errorf("syscalls[%d]: %w", i, err)
		}
		for _, name := range call.Names {
			number, ok := info.SyscallNames[name]
			if !ok {
				continue
			}
			if err := r.add(number, alternatives, ret); err != nil {
				return rules{}, fmt.Errorf("syscalls[%d]: %s: %w", i, name, err)
			}
		}
	}
	return r, nil
}

// add adds one rule. Without alternatives it holds whatever the arguments are.
func (r rules) add(number int, alternatives [][]specs.LinuxSeccompArg, ret uint32) error {
	v := r.byNumber[number]
	if v == nil {
		v = &verdict{otherwise: r.fallback}
		r.byNumber[number] = v
	}
	for _, conditions := range alternatives {
		v.clauses = append(v.clauses, clause{conditions, ret})
	}
	if len(alternatives) > 0 {
		return nil
	}
	if v.named && v.otherwise != ret {
		return fmt.Errorf("has two rules that contradict each other: %w", errdefs.ErrInvalidArgument)
	}
	v.named, v.otherwise = true, ret
	return nil
}

var operators = []specs.LinuxSeccompOperator{
	specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual,
}

// arguments is how many a system call has.
const arguments = 6

// split returns the sets of conditions of which one has to hold. That conditions on the
// same argument are alternatives is not in the runtime's specification; it is what runc
// does, and profiles count on it.
func split(args []specs.LinuxSeccompArg) ([][]specs.LinuxSeccompArg, error) {
	var used [arguments]bool
	again := false
	for _, a := range args {
		if a.Index >= arguments {
			return nil, fmt.Errorf("argument %d does not exist: %w", a.Index, errdefs.ErrInvalidArgument)
		}
		if !slices.Contains(operators, a.Op) {
			return nil, fmt.Errorf("operator %q is unknown: %w", a.Op, errdefs.ErrInvalidArgument)
		}
		again = again || used[a.Index]
		used[a.Index] = true
	}
	if len(args) == 0 {
		return nil, nil
	}
	if !again {
		return [][]specs.LinuxSeccompArg{args}, nil
	}
	out := make([][]specs.LinuxSeccompArg, 0, len(args))
	for _, a := range args {
		out = append(out, []specs.LinuxSeccompArg{a})
	}
	return out, nil
}
