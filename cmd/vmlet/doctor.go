// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/vmlet/vmlet/pkg/config"
	"github.com/vmlet/vmlet/pkg/doctor"
	"github.com/vmlet/vmlet/pkg/libvirt"
	"github.com/vmlet/vmlet/pkg/network"
	"github.com/vmlet/vmlet/pkg/paths"
	"github.com/vmlet/vmlet/pkg/vm"
)

// connectPatience is how long the doctor waits for a connection that may just be slow.
const connectPatience = 3 * time.Second

func doctorCommand(opts *options) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check whether this host can run VMs, and say how to mend what is wrong",
		Long: `Checks whether this host can run VMs and says how to mend what is wrong. It changes
nothing and needs no running vmlet. Exits with 1 if anything fails; warnings do not count.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := opts.load()
			if err != nil {
				return err
			}
			checks, err := examine(cmd.Context(), c)
			if err != nil {
				return err
			}
			return printChecks(cmd.OutOrStdout(), checks)
		},
	}
}

// examine makes the adapters that the doctor asks, for this one time.
func examine(ctx context.Context, c config.Config) (_ []vm.Check, err error) {
	h, err := libvirt.New(ctx, libvirt.Config{URI: c.Libvirt.URI, Owner: "doctor", LogDir: c.Libvirt.LogDir})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	net, err := network.NewProbe(network.Config{ConfDir: c.CNI.ConfDir, BinDirs: c.CNI.BinDirs, Paths: nodePaths(c)})
	if err != nil {
		return nil, err
	}
	defer net.Close()
	awaitLibvirt(ctx, h)
	d := &doctor.Doctor{Config: c, Libvirt: hypervisor{h}, Network: net, Root: "/"}
	return d.Run(ctx), nil
}

// awaitLibvirt gives the connection a moment; that it does not come is a finding.
func awaitLibvirt(ctx context.Context, h *libvirt.Hypervisor) {
	ctx, cancel := context.WithTimeout(ctx, connectPatience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for h.Ready(ctx) != nil {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// printChecks writes a line per check and, for what is wrong, how to mend it.
func printChecks(w io.Writer, checks []vm.Check) error {
	failed := 0
	for _, c := range checks {
		if c.Level == vm.CheckFail {
			failed++
		}
		if _, err := fmt.Fprintf(w, "%-4s  %-14s  %s\n", c.Level, c.Name, c.Summary); err != nil {
			return err
		}
		if c.Level != vm.CheckOK && c.Mend != "" {
			if _, err := fmt.Fprintf(w, "      %-14s  mend: %s\n", "", c.Mend); err != nil {
				return err
			}
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks failed", failed, len(checks))
	}
	return nil
}

func nodePaths(c config.Config) paths.Node { return paths.Node{Root: c.Root, State: c.State} }
