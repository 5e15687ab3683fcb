// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func (a *app) runCommand() *cobra.Command {
	var asked runFlags
	cmd := &cobra.Command{
		Use:   "run IMAGE",
		Short: "Run a VM pod",
		Long: `Runs a VM from an image, on the pod network of this node, and prints the pod's name, IDs
and addresses. It returns when the VM was started; with --wait when the guest's agent
answers. When it fails, or is interrupted, it removes what it has made.`,
		Example: `  vmletctl run registry.example/debian:12
  vmletctl run debian:12 --pull never --name web --memory 1GiB --cpus 2 --wait
  vmletctl run debian:12 --name db --user-data cloud-config.yaml --ssh-key ~/.ssh/id_ed25519.pub`,
		Args: cobra.ExactArgs(1),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			spec, err := a.podSpec(args[0], &asked)
			if err != nil {
				return err
			}
			if err := c.nameIsFree(ctx, spec.pod); err != nil {
				return err
			}
			if spec.container.Image.Image, err = a.provide(ctx, c, args[0], asked.pull); err != nil {
				return err
			}
			t, err := c.launch(ctx, spec)
			if err != nil {
				return err
			}
			return a.tellLaunched(ctx, c, t, asked.wait)
		}),
	}
	asked.define(cmd.Flags())
	return cmd
}

// nameIsFree refuses a name that would make two pods hard to tell apart.
func (c *client) nameIsFree(ctx context.Context, config *runtimeapi.PodSandboxConfig) error {
	pods, err := c.pods(ctx)
	if err != nil {
		return err
	}
	name := config.GetMetadata().GetNamespace() + "/" + config.GetMetadata().GetName()
	for _, p := range pods {
		if p.String() == name {
			return fmt.Errorf("there is a pod %s (%s) already; remove it by vmletctl rm %s, or choose another --name",
				name, short(p.sandbox.GetId()), name)
		}
	}
	return nil
}

// provide has the image in the store and returns its ID.
func (a *app) provide(ctx context.Context, c *client, ref string, when pullPolicy) (string, error) {
	if when != pullAlways {
		found, err := c.images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: ref}})
		if err != nil {
			return "", err
		}
		if id := found.GetImage().GetId(); id != "" {
			return id, nil
		}
		if when == pullNever {
			return "", fmt.Errorf("the image %s is not on this node; pull it by vmletctl image pull %s, or leave out --pull never", ref, ref)
		}
	}
	img, err := a.pull(ctx, c, ref)
	return img.GetId(), err
}

// tellLaunched prints the pod, whether the guest came up as was asked or not.
func (a *app) tellLaunched(ctx context.Context, c *client, t target, wait bool) error {
	var waitErr error
	if wait {
		told := a.newProgress()
		told.show("waiting for the guest agent of "+t.String(), 0, 0)
		waitErr = a.awaitAgent(ctx, c, t)
		told.end()
	}
	seen, err := c.view(context.WithoutCancel(ctx), t)
	if err != nil {
		return errors.Join(waitErr, err)
	}
	return errors.Join(a.print(seen, func(w io.Writer) {
		row(w, "NAMESPACE", "NAME", "IP", "POD", "CONTAINER")
		row(w, seen.Namespace, seen.Name, strings.Join(seen.IPs, ","), seen.PodID, t.boot.GetId())
	}), waitErr)
}
