// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

// forgetful is a hypervisor whose list lacks all domains.
type forgetful struct{ lifecycle.Hypervisor }

func (forgetful) Domains(context.Context) ([]vm.Domain, error) { return nil, nil }

// stuckDisks is an adapter that hangs for one sandbox until its caller gives up.
type stuckDisks struct {
	lifecycle.Disks
	id string
}

func (d stuckDisks) Usage(ctx context.Context, id string) (vm.FSUsage, error) {
	if id == d.id {
		<-ctx.Done()
		return vm.FSUsage{}, ctx.Err()
	}
	return d.Disks.Usage(ctx, id)
}
