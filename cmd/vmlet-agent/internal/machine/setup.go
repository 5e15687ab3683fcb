// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// maxHostname is the kernel's.
const maxHostname = 64

// Setup makes the guest as the pod wants it. Idempotent; after an error, what came before it
// stays.
func (m *Machine) Setup(req *agentv1.SetupRequest) error {
	if name := req.GetHostname(); name != "" {
		if err := m.setHostname(name); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(req.GetSysctls())) {
		if err := m.setSysctl(name, req.GetSysctls()[name]); err != nil {
			return err
		}
	}
	if conf := req.GetResolvConf(); len(conf) > 0 {
		if err := replaceFile(m.path("etc/resolv.conf"), conf, 0o644); err != nil {
			return fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
		}
	}
	return nil
}

// setHostname sets the running kernel's name: the files are the distribution's.
func (m *Machine) setHostname(name string) error {
	if len(name) > maxHostname {
		return fmt.Errorf("hostname %q is longer than %d bytes: %w", name, maxHostname, errdefs.ErrInvalidArgument)
	}
	if name == m.read("proc/sys/kernel/hostname") {
		return nil
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("set the hostname: %w", err)
	}
	return nil
}

// setSysctl sets a kernel parameter.
func (m *Machine) setSysctl(name, value string) error {
	file := sysctlFile(name)
	if !filepath.IsLocal(file) {
		return fmt.Errorf("sysctl %q is none: %w", name, errdefs.ErrInvalidArgument)
	}
	path := m.path("proc/sys", file)
	if old, err := os.ReadFile(path); err == nil && slices.Equal(strings.Fields(string(old)), strings.Fields(value)) {
		return nil
	}
	// Never made: what is not there the kernel does not have.
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.EISDIR) {
		return fmt.Errorf("the guest's kernel has no sysctl %q: %w", name, errdefs.ErrFailedPrecondition)
	}
	if err == nil {
		_, err = f.WriteString(value)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("set sysctl %s: %w: %w", name, err, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// sysctlFile returns a parameter's file below /proc/sys. As in sysctl(8), the first separator
// of a name tells which of "." and "/" separates; the other one belongs to a name.
func sysctlFile(name string) string {
	if i := strings.IndexAny(name, "./"); i >= 0 && name[i] == '/' {
		return name
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, name)
}
