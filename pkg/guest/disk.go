// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"

	"github.com/vmlet/vmlet/pkg/vm"
)

// DiskUse says what in the guest uses a disk, "" for nothing. Where only qemu-guest-agent answers it still waits for
// vmlet-agent until ctx ends: after a restart of ours that may just be slower, and what hangs on the answer is data.
func (g *Guest) DiskUse(ctx context.Context, id, serial string) (string, error) {
	const what = "ask what uses a disk in the guest of"
	if g.hasNoPort(id) {
		return "", wrap(what, id, onlyOurs("what uses a disk in the guest", id))
	}
	use, err := g.agents.DiskUse(ctx, id, serial)
	return use, wrap(what, id, err)
}

// GrowFileSystem has the file system on a disk take all of it.
func (g *Guest) GrowFileSystem(ctx context.Context, id, serial string, size int64) (did vm.FileSystemGrowth, err error) {
	err = g.need(ctx, id, "the growth of a file system")
	if err == nil {
		did, err = g.agents.GrowFileSystem(ctx, id, serial, size)
	}
	return did, wrap("grow the file system on a disk in the guest of", id, err)
}
