// SPDX-License-Identifier: Apache-2.0

package network

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

// pluginExec runs CNI plugins for libcni. libcni's own runner kills the plugin alone when
// the context ends, then waits for ever for children of it that hold its output open.
type pluginExec struct{ version.PluginDecoder }

var _ invoke.Exec = (*pluginExec)(nil)

// FindInPath implements invoke.Exec. Unavailable if there is no such plugin.
func (*pluginExec) FindInPath(plugin string, dirs []string) (string, error) {
	path, err := invoke.FindInPath(plugin, dirs)
	if err != nil {
		return "", fmt.Errorf("plugin %q not found in %s: %w", plugin, strings.Join(dirs, ", "), errdefs.ErrUnavailable)
	}
	return path, nil
}

// ExecPlugin implements invoke.Exec. When ctx ends the plugin and its children are killed.
func (*pluginExec) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	name := filepath.Base(path)
	stdout, stderr, err := runPlugin(ctx, path, stdin, environ)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("plugin %s was killed: %w", name, context.Cause(ctx))
	}
	if err != nil {
		return nil, pluginError(name, stdout, stderr, err)
	}
	// ADD and VERSION answer on stdout. The others need not, so nobody looks.
	answers := slices.Contains(environ, "CNI_COMMAND=ADD") || slices.Contains(environ, "CNI_COMMAND=VERSION")
	if answers && !json.Valid(stdout) {
		return nil, fmt.Errorf("plugin %s answered what is not JSON: %s", name, excerpt(stdout))
	}
	return stdout, nil
}

// A plugin that is just being installed is busy for a moment.
const (
	busyRetries  = 20
	busyInterval = 100 * time.Millisecond
)

func runPlugin(ctx context.Context, path string, stdin []byte, environ []string) (stdout, stderr []byte, err error) {
	for try := 0; ; try++ {
		var out, errOut bytes.Buffer
		cmd := exec.CommandContext(ctx, path)
		cmd.Env = environ
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &errOut
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		cmd.WaitDelay = time.Second
		err := cmd.Run()
		if !errors.Is(err, syscall.ETXTBSY) || try == busyRetries {
			return out.Bytes(), errOut.Bytes(), err
		}
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(busyInterval):
		}
	}
}

// pluginError is what a plugin that failed has to say: the CNI error on stdout, else what
// it wrote in free form.
func pluginError(name string, stdout, stderr []byte, err error) error {
	var said types.Error
	if json.Unmarshal(stdout, &said) == nil && said.Msg != "" {
		switch said.Code {
		case types.ErrTryAgainLater, types.ErrPluginNotAvailable, types.ErrLimitedConnectivity:
			return fmt.Errorf("plugin %s: %w: %w", name, &said, errdefs.ErrUnavailable)
		}
		return fmt.Errorf("plugin %s: %w", name, &said)
	}
	if len(bytes.TrimSpace(stdout)) > 0 {
		return fmt.Errorf("plugin %s: %w: %s", name, err, excerpt(stdout))
	}
	return fmt.Errorf("plugin %s: %w: %s", name, err, excerpt(stderr))
}

// excerpt quotes as much of a plugin's output as an error can bear.
func excerpt(output []byte) string {
	const most = 300
	output = bytes.TrimSpace(output)
	if len(output) == 0 {
		return "(nothing)"
	}
	if len(output) > most {
		return fmt.Sprintf("%q...", output[:most])
	}
	return fmt.Sprintf("%q", output)
}
