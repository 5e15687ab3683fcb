// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// defaultGrace is what Kubernetes gives a pod to end, in seconds.
const defaultGrace = 30

func (a *app) stopCommand() *cobra.Command {
	var grace int64
	cmd := &cobra.Command{
		Use:   "stop POD...",
		Short: "Power VMs off",
		Long: `Powers the VMs of pods off and frees their addresses. A guest that is still up when its
time is over is destroyed. Disks and logs stay until the pod is removed.`,
		Example: `  vmletctl stop web
  vmletctl stop -t 0 web   # as if its plug were pulled`,
		Args: cobra.MinimumNArgs(1),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			if grace < 0 {
				return usageError{"vmletctl stop", fmt.Errorf("--time %d is negative", grace)}
			}
			return a.each(args, func(ref string) error {
				t, err := c.find(ctx, ref)
				if err != nil {
					return err
				}
				return c.stop(ctx, t.pod, grace)
			})
		}),
	}
	cmd.Flags().Int64VarP(&grace, "time", "t", defaultGrace, "`SECONDS` that a guest is given to power itself off")
	return cmd
}

// stop ends what runs in a pod, and then the pod.
func (c *client) stop(ctx context.Context, p pod, grace int64) error {
	for _, boot := range p.containers {
		if !running(boot) {
			continue
		}
		if _, err := c.runtime.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: boot.GetId(), Timeout: grace}); err != nil {
			return err
		}
	}
	_, err := c.runtime.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: p.sandbox.GetId()})
	return err
}

// each does something to all that was told, says what is done, and goes on where it fails.
func (a *app) each(args []string, do func(arg string) error) error {
	var errs []error
	for _, arg := range args {
		if err := do(arg); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(a.out, arg)
	}
	return errors.Join(errs...)
}

// eachVM is each for calls on VMs, which are told by their pods.
func (a *app) eachVM(do func(ctx context.Context, c *client, id string) error) func(*cobra.Command, []string) error {
	return a.connected(func(ctx context.Context, c *client, args []string) error {
		return a.each(args, func(ref string) error {
			t, err := c.find(ctx, ref)
			if err != nil {
				return err
			}
			return do(ctx, c, t.sandbox.GetId())
		})
	})
}
