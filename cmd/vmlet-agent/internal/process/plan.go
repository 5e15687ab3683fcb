// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/mountns"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// plan is a process with all names looked up.
type plan struct {
	proto *agentv1.Process
	// Known from the request alone.
	bounding, ambient capSet
	// Known in the namespace.
	id   identity
	env  []string
	path string
}

// newPlan checks what needs no look at the guest.
func newPlan(p *agentv1.Process) (*plan, error) {
	if len(p.GetArgs()) == 0 || p.GetArgs()[0] == "" {
		return nil, fmt.Errorf("no program to run: %w", os.ErrInvalid)
	}
	for _, s := range [][]string{p.GetArgs(), p.GetEnv()} {
		for _, v := range s {
			if strings.Contains(v, "\x00") {
				return nil, fmt.Errorf("a NUL in the arguments or the environment: %w", os.ErrInvalid)
			}
		}
	}
	s := p.GetSecurity()
	plan := &plan{proto: p}
	var err error
	if plan.bounding, err = capSetOf(s.GetCapabilities()); err != nil {
		return nil, err
	}
	if plan.ambient, err = capSetOf(s.GetAmbientCapabilities()); err != nil {
		return nil, err
	}
	if s.GetLimitCapabilities() && plan.ambient&^plan.bounding != 0 {
		return nil, fmt.Errorf("ambient capabilities are not among the capabilities: %w", os.ErrInvalid)
	}
	if n := len(s.GetSeccomp()); n%sizeofSockFilter != 0 || n > maxFilter*sizeofSockFilter {
		return nil, fmt.Errorf("seccomp program of %d bytes: %w", n, os.ErrInvalid)
	}
	return plan, nil
}

func (p *plan) restrictions() mountns.Restrictions {
	s := p.proto.GetSecurity()
	return mountns.Restrictions{ReadonlyRoot: s.GetReadonlyRoot(), MaskedPaths: s.GetMaskedPaths(), ReadonlyPaths: s.GetReadonlyPaths()}
}

func (p *plan) oomScoreAdj() string {
	return strconv.Itoa(int(p.proto.GetSecurity().GetOomScoreAdj()))
}

// resolve looks user, folder and program up as the calling thread sees them, and makes the
// folder its own.
func (p *plan) resolve() error {
	var err error
	if p.id, err = lookup(p.proto.GetSecurity()); err != nil {
		return err
	}
	p.env = environ(p.proto.GetEnv(), p.id.home, p.proto.GetTty())
	if err := p.chdir(); err != nil {
		return err
	}
	if p.path, err = lookPath(p.proto.GetArgs()[0], p.env); err != nil {
		return notStarted(err)
	}
	return nil
}

func (p *plan) chdir() error {
	dir := p.proto.GetCwd()
	switch {
	case dir == "" && p.proto.GetSecurity() != nil:
		dir = "/"
	case dir == "":
		// A user whose home is not there lands in the root folder, as with login(1).
		if err := unix.Chdir(p.id.home); err == nil {
			return nil
		}
		dir = "/"
	}
	err := unix.Chdir(dir)
	if errors.Is(err, unix.ENOENT) && p.proto.GetSecurity() != nil {
		// Container runtimes make the folder that a container works in.
		err = errors.Join(os.MkdirAll(dir, 0o755), unix.Chdir(dir)) //nolint:gosec // as readable as any folder of the image
	}
	if err != nil {
		return notStarted(&fs.PathError{Op: "chdir", Path: dir, Err: err})
	}
	return nil
}

// confine takes from the calling thread what the process is not to have. The thread is still
// root's with all it needs to become somebody else.
func (p *plan) confine() error {
	s := p.proto.GetSecurity()
	if s.GetLimitCapabilities() {
		if err := p.bounding.bound(); err != nil {
			return err
		}
	}
	if s.GetNoNewPrivileges() {
		return noNewPrivileges()
	}
	return nil
}

func noNewPrivileges() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	return nil
}
