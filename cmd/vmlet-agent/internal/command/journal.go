// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/process"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// journal is what an agent finds out from, after a restart, what became of the command. Its
// folder is of this boot.
//
//	running   "PID START ID", or "0 0 ID" before it was started; START as in /proc/PID/stat
//	exit      an agentv1.MainExit; running counts no more
type journal struct {
	dir string
}

func openJournal(dir string) (journal, error) {
	return journal{dir}, os.MkdirAll(dir, 0o700)
}

func (j journal) path(name string) string { return filepath.Join(j.dir, name) }

// replace writes a file whole or not at all.
func (j journal) replace(name string, content []byte) error {
	part := j.path(name + ".part")
	if err := os.WriteFile(part, content, 0o600); err != nil {
		return err
	}
	return os.Rename(part, j.path(name))
}

// begin records that a command is about to start.
func (j journal) begin(id string) error {
	return j.replace("running", fmt.Appendf(nil, "0 0 %s", id))
}

// running records the process of the command. Without it the next agent could not end the
// process, which is no reason to end it now.
func (j journal) running(id string, pid int, log func(error)) {
	if err := j.replace("running", fmt.Appendf(nil, "%d %s %s", pid, startTime(pid), id)); err != nil {
		log(fmt.Errorf("journal: %w", err))
	}
}

// end records a command's exit.
func (j journal) end(exit *agentv1.MainExit) error {
	b, err := proto.Marshal(exit)
	if err != nil {
		return err
	}
	return j.replace("exit", b)
}

// forget removes all there is of a command: the exit last, which counts more.
func (j journal) forget() error {
	for _, name := range []string{"running", "exit"} {
		if err := os.Remove(j.path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// recover returns the exit of the command that the agent before has left behind, nil for
// none. One that still runs is killed: how it would have ended nobody could tell.
func (j journal) recover() (*agentv1.MainExit, error) {
	b, err := os.ReadFile(j.path("exit"))
	if err == nil {
		var exit agentv1.MainExit
		return &exit, proto.Unmarshal(b, &exit)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	b, err = os.ReadFile(j.path("running"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	fields := strings.SplitN(string(b), " ", 3)
	if len(fields) != 3 {
		return nil, fmt.Errorf("%q is not of ours", b)
	}
	pid, err := strconv.Atoi(fields[0])
	if err != nil {
		return nil, err
	}
	id := fields[2]
	if pid > 0 && startTime(pid) == fields[1] {
		if err := process.KillSession(pid); err != nil {
			return nil, err
		}
	}
	exit := &agentv1.MainExit{Id: id, Exit: &agentv1.Exit{
		Code: 128 + int32(syscall.SIGKILL), Signal: int32(syscall.SIGKILL), AtUnixNano: time.Now().UnixNano(),
	}}
	return exit, j.end(exit)
}

// startTime is when a process started, in the kernel's words; "" if there is none.
func startTime(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	const starttime = 22 - 3 // fields are counted from the one behind the name
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) <= starttime {
		return ""
	}
	return fields[starttime]
}
