// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

func (a *app) imagePullCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pull IMAGE",
		Short: "Pull an image from its registry",
		Long: `Pulls an image from its registry, or finds that it is here and up to date, and tells on
stderr how far it has come.`,
		Example: `  vmletctl image pull registry.example/debian:12`,
		Args:    cobra.ExactArgs(1),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			img, err := a.pull(ctx, c, args[0])
			if err != nil {
				return err
			}
			return a.printImage(img)
		}),
	}
}

var pullPhases = map[vmletv1.PullPhase]string{
	vmletv1.PullPhase_PULL_PHASE_RESOLVING:   "resolving",
	vmletv1.PullPhase_PULL_PHASE_DOWNLOADING: "downloading",
	vmletv1.PullPhase_PULL_PHASE_VERIFYING:   "verifying",
}

// pull pulls an image and tells how far it is.
func (a *app) pull(ctx context.Context, c *client, ref string) (*vmletv1.Image, error) {
	told := a.newProgress()
	defer told.end()
	stream, err := c.store.PullImage(ctx, &vmletv1.PullImageRequest{Image: ref})
	if err != nil {
		return nil, err
	}
	var img *vmletv1.Image
	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) && img != nil {
			return img, nil
		}
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("pull %s: vmlet ended the answer without an image; pull it again", ref)
		}
		if err != nil {
			return nil, err
		}
		if msg.GetImage() != nil {
			img = msg.GetImage()
		}
		if phase, known := pullPhases[msg.GetProgress().GetPhase()]; known {
			told.show(phase+" "+ref, msg.GetProgress().GetDoneBytes(), msg.GetProgress().GetTotalBytes())
		}
	}
}
