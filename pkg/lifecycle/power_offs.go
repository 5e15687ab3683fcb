// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Why a poweroff came to its end without the guest's, and what a VM that is off cannot be asked.
var (
	errNotOff    = fmt.Errorf("the guest has not powered off in time; it is left as it is, and --mode force pulls its plug: %w", context.DeadlineExceeded)
	errOff       = fmt.Errorf("its VM is powered off; power it on first (vmletctl power on): %w", errdefs.ErrFailedPrecondition)
	errTurningOn = fmt.Errorf("its VM is being powered on: %w", errdefs.ErrUnavailable)
)

// powerOffs are the poweroffs under way, by container ID, and what still presses the button of earlier ones.
type powerOffs struct {
	mu       sync.Mutex
	m        map[string]*powerOff
	pressers map[string][]*presser
}

// powerOff is one under way. done is closed after result and err are set.
type powerOff struct {
	// id is that of the intent on record.
	id string
	*presser

	// hurry is closed when the plug is to be pulled now, off when the VM is off and its container held.
	hurrying, leaving sync.Once
	hurry, off        chan struct{}

	done   chan struct{}
	result vm.PoweredOff
	err    error
}

// begin makes the one of a recorded intent.
func (p *powerOffs) begin(c vm.Container) *powerOff {
	op := &powerOff{
		id: c.Status.PowerOff.ID, presser: newPresser(),
		hurry: make(chan struct{}), off: make(chan struct{}), done: make(chan struct{}),
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m == nil {
		p.m, p.pressers = map[string]*powerOff{}, map[string][]*presser{}
	}
	p.m[c.ID] = op
	p.pressers[c.ID] = append(p.pressers[c.ID], op.presser)
	return op
}

// of returns the poweroff under way of a container, nil if there is none.
func (p *powerOffs) of(containerID string) *powerOff {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.m[containerID]
}

// finish tells how a poweroff ended.
func (p *powerOffs) finish(containerID string, op *powerOff, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m[containerID] == op {
		delete(p.m, containerID)
	}
	op.calm()
	op.err = err
	close(op.done)
}

// calmed returns when nothing presses the button of a container's VM any more, as presser.calmed does.
func (p *powerOffs) calmed(ctx context.Context, containerID string) error {
	p.mu.Lock()
	all := p.pressers[containerID]
	p.mu.Unlock()
	for _, one := range all {
		if err := one.calmed(ctx); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.pressers[containerID]) == len(all) {
		delete(p.pressers, containerID)
	}
	return nil
}

// forget drops what is kept of a container that has ended.
func (p *powerOffs) forget(containerID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pressers, containerID)
}

// stands tells whether this is the poweroff that is on record.
func (op *powerOff) stands(c vm.Container) bool {
	return c.Status.PowerOff != nil && c.Status.PowerOff.ID == op.id
}

// force has the plug pulled now.
func (op *powerOff) force() { op.hurrying.Do(func() { close(op.hurry) }) }

// wentOff tells that the VM is off.
func (op *powerOff) wentOff() { op.leaving.Do(func() { close(op.off) }) }
