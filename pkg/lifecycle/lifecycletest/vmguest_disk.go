// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"fmt"

	"github.com/vmlet/vmlet/pkg/vm"
)

// UseDisk has the guest use a disk, as a mount does; "" for no longer.
func (g *Guest) UseDisk(id, serial, how string) {
	g.with(id, func(one *fakeGuest) {
		if one.uses == nil {
			one.uses = map[string]string{}
		}
		one.uses[serial] = how
	})
}

// DiskUse implements lifecycle.Guest.
func (g *Guest) DiskUse(ctx context.Context, id, serial string) (use string, err error) {
	err = g.call(ctx, "DiskUse", id, func(one *fakeGuest) error {
		use = one.uses[serial]
		return nil
	})
	return use, err
}

// GrowFileSystem implements lifecycle.Guest: what is mounted grows.
func (g *Guest) GrowFileSystem(ctx context.Context, id, serial string, size int64) (out vm.FileSystemGrowth, err error) {
	err = g.call(ctx, "GrowFileSystem", id, func(one *fakeGuest) error {
		out = vm.FileSystemGrowth{Outcome: vm.GrowthSkipped, Detail: "no file system of it is mounted"}
		if use := one.uses[serial]; use != "" {
			out = vm.FileSystemGrowth{Outcome: vm.GrowthGrown, Detail: fmt.Sprintf("%s has %d bytes", use, size)}
		}
		return nil
	})
	return out, err
}
