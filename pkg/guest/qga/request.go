// SPDX-License-Identifier: Apache-2.0

package qga

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// maxCommand bounds what is sent at once. libvirt takes no string of more than 4 MiB.
const maxCommand = 2 << 20

// defaultEnv is what a command finds that is told nothing else: the agent passes on no
// environment of its own once it is given one.
var defaultEnv = []vm.EnvVar{
	{Name: "PATH", Value: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	{Name: "HOME", Value: "/root"},
}

// check returns the whole environment of a command that can be run, or InvalidArgument.
// Errors hold no values.
func check(req vm.ExecRequest) (env []string, err error) {
	if len(req.Command) == 0 || req.Command[0] == "" {
		return nil, fmt.Errorf("no command: %w", errdefs.ErrInvalidArgument)
	}
	size := 0
	for _, arg := range req.Command {
		if strings.ContainsRune(arg, 0) {
			return nil, fmt.Errorf("an argument holds a zero byte: %w", errdefs.ErrInvalidArgument)
		}
		size += len(arg)
	}
	given := map[string]bool{}
	for _, v := range req.Env {
		if v.Name == "" || strings.ContainsAny(v.Name, "=\x00") || strings.ContainsRune(v.Value, 0) {
			return nil, fmt.Errorf("environment variable %q: no name, an equals sign in it, or a zero byte: %w",
				v.Name, errdefs.ErrInvalidArgument)
		}
		given[v.Name] = true
		env = append(env, v.Name+"="+v.Value)
		size += len(v.Name) + len(v.Value)
	}
	if size > maxCommand {
		return nil, fmt.Errorf("command and environment have %d bytes, at most %d can be sent: %w", size, maxCommand, errdefs.ErrInvalidArgument)
	}
	for _, v := range defaultEnv {
		if !given[v.Name] {
			env = append(env, v.Name+"="+v.Value)
		}
	}
	return env, nil
}
