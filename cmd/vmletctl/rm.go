// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func (a *app) rmCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm POD...",
		Short: "Remove pods with their VMs and disks",
		Long: `Removes pods with their VMs and disks. One that runs is refused, or with -f destroyed
first. Log files are removed with pods that "vmletctl run" has made; those of other pods
belong to who made them.`,
		Example: `  vmletctl rm web
  vmletctl rm -f web db`,
		Args: cobra.MinimumNArgs(1),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			return a.each(args, func(ref string) error {
				t, err := c.find(ctx, ref)
				if err != nil {
					return err
				}
				if !force && t.running() {
					return fmt.Errorf("pod %s runs; stop it by vmletctl stop %s, or destroy it by -f", t, ref)
				}
				return c.remove(ctx, t.pod)
			})
		}),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "destroy a VM that runs")
	return cmd
}

// remove takes a pod away with all that belongs to it.
func (c *client) remove(ctx context.Context, p pod) error {
	logs, err := c.ownLogs(ctx, p)
	if err != nil {
		return err
	}
	if err := c.removeSandbox(ctx, p.sandbox.GetId()); err != nil {
		return err
	}
	var errs []error
	for _, path := range logs {
		if err := removeLog(path); err != nil {
			errs = append(errs, fmt.Errorf("pod %s is removed, but its log is not: %w", p, err))
		}
	}
	return errors.Join(errs...)
}

// removeLog removes a log file and what rotation has put beside it, which has the same
// name and more behind it.
func removeLog(path string) error {
	beside, err := os.ReadDir(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, entry := range beside {
		name := entry.Name()
		if name != filepath.Base(path) && !strings.HasPrefix(name, filepath.Base(path)+".") {
			continue
		}
		if err := os.Remove(filepath.Join(filepath.Dir(path), name)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// removeSandbox stops a sandbox and removes it. Both are idempotent.
func (c *client) removeSandbox(ctx context.Context, id string) error {
	if _, err := c.runtime.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		return err
	}
	_, err := c.runtime.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: id})
	return err
}

// ownLogs are the log files of a pod that this program has made.
func (c *client) ownLogs(ctx context.Context, p pod) ([]string, error) {
	if p.sandbox.GetLabels()[madeByLabel] != madeBy {
		return nil, nil
	}
	var paths []string
	for _, boot := range p.containers {
		resp, err := c.runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: boot.GetId()})
		if err != nil {
			return nil, err
		}
		if path := resp.GetStatus().GetLogPath(); path != "" {
			paths = append(paths, path)
		}
	}
	return paths, nil
}
