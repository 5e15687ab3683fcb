// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/guest"
	"github.com/vmlet/vmlet/pkg/vm"
)

// withoutFiles is a lifecycle.Guest that cannot give its guests files of the host.
type withoutFiles struct{ *guest.Guest }

func (withoutFiles) MountShares(context.Context, string, string, []vm.ShareMount) error {
	return errdefs.ErrNotImplemented
}

func (withoutFiles) UnmountShares(context.Context, string) error { return errdefs.ErrNotImplemented }

func (withoutFiles) KeepFiles(context.Context, string, string, []vm.FileTree) error {
	return errdefs.ErrNotImplemented
}

func (withoutFiles) FetchFiles(context.Context, string) error { return errdefs.ErrNotImplemented }
