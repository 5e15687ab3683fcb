// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/cmd/vmletctl/logfile"
)

func (a *app) logsCommand() *cobra.Command {
	var follow bool
	var tail int
	cmd := &cobra.Command{
		Use:   "logs POD",
		Short: "Print what the guest wrote to its serial console",
		Long: `Prints what the guest wrote to its serial console, from the container's log file, which
must be reachable from here. Of a log that was rotated, the newest file is printed. With
-f it goes on, through rotation, until the VM ends.`,
		Example: `  vmletctl logs web
  vmletctl logs -f --tail 20 web`,
		Args: cobra.ExactArgs(1),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			path, id, err := c.logOf(ctx, args[0])
			if err != nil {
				return err
			}
			if !follow {
				return unreadable(path, logfile.Print(path, tail, a.out, a.err))
			}
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			return unreadable(path, logfile.Follow(ctx, path, tail, a.out, a.err, a.whenEnded(ctx, c, id)))
		}),
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is written, until the VM ends")
	cmd.Flags().IntVar(&tail, "tail", -1, "begin with the last `LINES` (default: all)")
	cmd.Flags().Lookup("tail").DefValue = "0" // which the help does not show
	return cmd
}

// logOf is the log file of a container and the container's ID.
func (c *client) logOf(ctx context.Context, ref string) (path, id string, err error) {
	t, err := c.findContainer(ctx, ref)
	if err != nil {
		return "", "", err
	}
	resp, err := c.runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: t.boot.GetId()})
	if err != nil {
		return "", "", err
	}
	if resp.GetStatus().GetLogPath() == "" {
		return "", "", fmt.Errorf("pod %s has no log: who made it gave no log directory", t)
	}
	return resp.GetStatus().GetLogPath(), t.boot.GetId(), nil
}

// unreadable says what to do about a log that cannot be read.
func unreadable(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the log %s is not there: the VM has not been started, the log was removed, or it is in "+
			"another container's file system; run vmletctl where vmlet runs", path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no permission to read the log %s; run vmletctl as root", path)
	case err != nil:
		return fmt.Errorf("read the log: %w", err)
	}
	return nil
}
