// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/vmlet/vmlet/pkg/version"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// versionView is the versions. Its JSON is for programs: keys are added, none changes.
type versionView struct {
	Client buildView `json:"client"`
	// Server is nil if it did not answer.
	Server *serverView `json:"server,omitempty"`
}

type buildView struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
}

type serverView struct {
	buildView

	Libvirt      string `json:"libvirt,omitempty"`
	QEMU         string `json:"qemu,omitempty"`
	LibvirtError string `json:"libvirtError,omitempty"`
	Accelerator  string `json:"accelerator,omitempty"`
}

var accelerators = map[vmletv1.Accelerator]string{
	vmletv1.Accelerator_ACCELERATOR_KVM: "kvm",
	vmletv1.Accelerator_ACCELERATOR_TCG: "tcg",
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of vmletctl, vmlet, libvirt and QEMU",
		Long:  `Prints the versions of vmletctl itself and, where it runs, of vmlet and what it runs VMs on.`,
		Example: `  vmletctl version
  vmletctl version -o json | jq -r .server.accelerator`,
		Args: cobra.NoArgs,
		RunE: a.connected(func(ctx context.Context, c *client, _ []string) error {
			view := versionView{Client: buildView{version.Version, version.Commit}}
			resp, callErr := c.node.Version(ctx, &vmletv1.VersionRequest{})
			if callErr == nil {
				view.Server = &serverView{
					buildView:    buildView{resp.GetVersion(), resp.GetCommit()},
					Libvirt:      resp.GetLibvirtVersion(),
					QEMU:         resp.GetQemuVersion(),
					LibvirtError: resp.GetLibvirtError(),
					Accelerator:  accelerators[resp.GetAccelerator()],
				}
			}
			if err := a.print(view, view.table); err != nil {
				return err
			}
			return callErr // what this program is, is told all the same
		}),
	}
}

func (v versionView) table(w io.Writer) {
	row(w, "vmletctl", v.Client.Version, v.Client.Commit)
	s := v.Server
	if s == nil {
		return
	}
	row(w, "vmlet", s.Version, s.Commit)
	if s.LibvirtError != "" {
		row(w, "libvirt", "does not answer", s.LibvirtError)
		return
	}
	row(w, "libvirt", s.Libvirt)
	row(w, "qemu", s.QEMU, s.Accelerator)
}
