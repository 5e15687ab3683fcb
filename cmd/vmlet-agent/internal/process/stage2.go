// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// Stage2Arg is the argument with which the agent's program is to call Stage2.
const Stage2Arg = "stage2"

// What stage 2 inherits beside its standard files.
const (
	stage2Plan   = 3 // an agentv1.Process with numbers for names, in a file without a name
	stage2Failed = 4 // a pipe that takes an error; execve closes it
	stage2Files  = 5
)

const (
	sizeofSockFilter = 8
	// maxFilter is the kernel's BPF_MAXINSNS.
	maxFilter = 4096
)

// launchStage2 starts the process by way of Stage2, and returns when it has executed its
// program.
func (s *Starter) launchStage2(plan *plan, std *stdio) (*os.Process, error) {
	file, err := plan.file()
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // it is memory
	failed, failure, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer failed.Close() //nolint:errcheck // read only
	p, err := s.fork(plan, "/proc/self/fd/"+strconv.Itoa(int(s.self.Fd())), []string{"vmlet-agent", Stage2Arg}, &os.ProcAttr{
		Env: []string{}, Files: append(std.child[:], file, failure), Sys: session(std),
	})
	err = errors.Join(err, failure.Close())
	if err != nil {
		return nil, err
	}
	why, err := io.ReadAll(failed)
	if err == nil && len(why) == 0 {
		return p, nil
	}
	_, werr := p.Wait()
	if len(why) > 0 {
		err = errors.New(string(why[1:]))
		if why[0] != 0 {
			err = &Error{int32(why[0]), err}
		}
	}
	return nil, errors.Join(err, werr)
}

// file returns the plan as Stage2 reads it, in memory.
func (p *plan) file() (*os.File, error) {
	src := p.proto.GetSecurity()
	b, err := proto.Marshal(&agentv1.Process{
		Args: append([]string{p.path}, p.proto.GetArgs()...),
		Env:  p.env,
		Security: &agentv1.Security{
			User: strconv.Itoa(int(p.id.uid)), Group: strconv.Itoa(int(p.id.gid)), SupplementalGroups: p.id.groups, StrictGroups: true,
			LimitCapabilities: src.GetLimitCapabilities(), Capabilities: src.GetCapabilities(),
			AmbientCapabilities: src.GetAmbientCapabilities(), NoNewPrivileges: src.GetNoNewPrivileges(), Seccomp: src.GetSeccomp(),
		},
	})
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("process", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memory for the process's plan: %w", err)
	}
	file := os.NewFile(uintptr(fd), "process")
	if _, err := file.WriteAt(b, 0); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// Stage2 makes this process what its plan says and executes the plan's program. It returns
// the exit code of its failure, which the agent has read by then.
func Stage2() int {
	runtime.LockOSThread()
	failure := os.NewFile(stage2Failed, "failure")
	for _, fd := range []int{stage2Plan, stage2Failed} {
		unix.CloseOnExec(fd)
	}
	err := stage2()
	code := byte(0)
	if e, ok := errors.AsType[*Error](err); ok {
		code = byte(e.Code)
	}
	_, _ = failure.Write(append([]byte{code}, err.Error()...)) //nolint:errcheck // the agent is gone if it fails
	return codeNotExecutable
}

func stage2() error {
	b, err := io.ReadAll(os.NewFile(stage2Plan, "plan"))
	if err != nil {
		return err
	}
	var p agentv1.Process
	if err := proto.Unmarshal(b, &p); err != nil {
		return err
	}
	program, err := newProgram(&p)
	if err != nil {
		return err
	}
	s := p.GetSecurity()
	plan, err := newPlan(&p)
	if err != nil {
		return err
	}
	steps := []func() error{plan.confine, plan.become, plan.filter}
	if !s.GetNoNewPrivileges() {
		// Setting a filter takes CAP_SYS_ADMIN then, which goes with the user: the filter has
		// to allow what comes after, as in every container runtime.
		steps = []func() error{plan.confine, plan.filter, plan.become}
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return program.exec()
}

// become makes the calling thread the user's.
func (p *plan) become() error {
	id, err := lookup(p.proto.GetSecurity())
	if err != nil {
		return err
	}
	// setgroups(2) and the others by themselves: those of package syscall are for all threads.
	groups := append(make([]uint32, 0, len(id.groups)+1), id.groups...)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(unsafe.SliceData(groups))), 0); errno != 0 { //nolint:gosec // as the system call takes it
		return fmt.Errorf("set groups: %w", errno)
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	gid, uid := uintptr(id.gid), uintptr(id.uid)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); errno != 0 {
		return fmt.Errorf("set group %d: %w", gid, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 {
		return fmt.Errorf("set user %d: %w", uid, errno)
	}
	return p.ambient.raise()
}

// filter sets the seccomp filter on the calling thread.
func (p *plan) filter() error {
	code := p.proto.GetSecurity().GetSeccomp()
	prog := unix.SockFprog{Len: uint16(len(code) / sizeofSockFilter), Filter: (*unix.SockFilter)(unsafe.Pointer(unsafe.SliceData(code)))} //nolint:gosec // as the system call takes it
	_, _, errno := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)))         //nolint:gosec // as the system call takes it
	if errno != 0 {
		return fmt.Errorf("set the seccomp filter: %w", errno)
	}
	return nil
}

// program is what is to be executed, in the kernel's form.
type program struct {
	path      string
	file      *byte
	argv, env []*byte
}

func newProgram(p *agentv1.Process) (*program, error) {
	if len(p.GetArgs()) < 2 {
		return nil, errors.New("stage 2 is for the agent alone")
	}
	prog := &program{path: p.GetArgs()[0]}
	var err error
	if prog.file, err = unix.BytePtrFromString(prog.path); err != nil {
		return nil, err
	}
	if prog.argv, err = syscall.SlicePtrFromStrings(p.GetArgs()[1:]); err != nil {
		return nil, err
	}
	prog.env, err = syscall.SlicePtrFromStrings(p.GetEnv())
	return prog, err
}

// exec returns only if it fails. Nothing else is called under the filter.
func (p *program) exec() error {
	_, _, errno := unix.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(p.file)), //nolint:gosec // as the system call takes it
		uintptr(unsafe.Pointer(unsafe.SliceData(p.argv))), uintptr(unsafe.Pointer(unsafe.SliceData(p.env)))) //nolint:gosec // as the system call takes it
	runtime.KeepAlive(p)
	return notStarted(&os.PathError{Op: "exec", Path: p.path, Err: errno})
}
