// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// completeTimeout is how long a shell waits for names. A vmlet that is away has none.
const completeTimeout = time.Second

// names asks vmlet for what an argument could be that begins with toComplete.
type names func(ctx context.Context, c *client, toComplete string) ([]string, error)

// completeNames has the shell complete the arguments of all commands below root by what there is, as their usage lines call
// them: POD, DISK, IMAGE or OPERATION. Commands that see to it themselves are left alone.
func (a *app) completeNames(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		a.completeNames(cmd)
		words := strings.Fields(cmd.Use)
		if cmd.ValidArgsFunction != nil || len(words) < 2 {
			continue
		}
		word, many := strings.CutSuffix(strings.Trim(words[1], "[]"), "...")
		ask := map[string]names{"POD": podNames, "DISK": diskNames, "IMAGE": imageNames, "OPERATION": operationNames}[word]
		if ask == nil {
			continue
		}
		cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 && !many {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			found := slices.DeleteFunc(a.ask(cmd.Context(), ask, toComplete), func(name string) bool {
				return !strings.HasPrefix(name, toComplete) || slices.Contains(args, name)
			})
			return found, cobra.ShellCompDirectiveNoFileComp
		}
	}
}

// ask returns no name where vmlet does not answer at once: an error would end up in somebody's command line.
func (a *app) ask(ctx context.Context, ask names, toComplete string) []string {
	ctx, cancel := context.WithTimeout(ctx, completeTimeout)
	defer cancel()
	c, err := dial(a.address)
	if err != nil {
		return nil
	}
	defer func() { _ = c.conn.Close() }() //nolint:errcheck // nobody could be told
	found, err := ask(ctx, c, toComplete)
	if err != nil {
		return nil
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// podNames are the names of pods, with their namespace where that is needed or asked for.
func podNames(ctx context.Context, c *client, toComplete string) ([]string, error) {
	resp, err := c.runtime.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		return nil, err
	}
	namespaces := map[string][]string{}
	for _, sandbox := range resp.GetItems() {
		name, namespace := sandbox.GetMetadata().GetName(), sandbox.GetMetadata().GetNamespace()
		if !slices.Contains(namespaces[name], namespace) {
			namespaces[name] = append(namespaces[name], namespace)
		}
	}
	var found []string
	for name, in := range namespaces {
		if len(in) == 1 && !strings.Contains(toComplete, "/") {
			found = append(found, name)
			if toComplete == "" || strings.HasPrefix(name, toComplete) {
				continue
			}
		}
		for _, namespace := range in {
			found = append(found, namespace+"/"+name)
		}
	}
	return found, nil
}

func diskNames(ctx context.Context, c *client, _ string) ([]string, error) {
	resp, err := c.disks.ListDisks(ctx, &vmletv1.ListDisksRequest{})
	if err != nil {
		return nil, err
	}
	var found []string
	for _, disk := range resp.GetDisks() {
		found = append(found, disk.GetName())
	}
	return found, nil
}

func imageNames(ctx context.Context, c *client, _ string) ([]string, error) {
	resp, err := c.images.ListImages(ctx, &runtimeapi.ListImagesRequest{})
	if err != nil {
		return nil, err
	}
	var found []string
	for _, image := range resp.GetImages() {
		found = append(found, image.GetRepoTags()...)
	}
	return found, nil
}
