// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	virt "libvirt.org/go/libvirt"
)

// startEventLoop runs libvirt's own event loop for the rest of the process.
var startEventLoop = sync.OnceValue(func() error {
	if err := virt.EventRegisterDefaultImpl(); err != nil {
		return fmt.Errorf("libvirt's event loop: %w", err)
	}
	go func() {
		for virt.EventRunDefaultImpl() == nil {
		}
	}()
	return nil
})

// guestEvents tells when guests have powered off, by QEMU's own clock reading, and when
// libvirt says that their domains are shut off.
type guestEvents struct {
	conn      *virt.Connect
	lifecycle int
	monitor   int

	mu       sync.Mutex
	powerOff map[string]time.Time // by UUID
	stopped  map[string]chan time.Time
	halted   map[string]time.Time
	stood    map[string]time.Duration
}

func listen(conn *virt.Connect) (*guestEvents, error) {
	e := &guestEvents{conn: conn, powerOff: map[string]time.Time{}, stopped: map[string]chan time.Time{}, halted: map[string]time.Time{}, stood: map[string]time.Duration{}}
	var err error
	e.monitor, err = conn.DomainQemuMonitorEventRegister(nil, "SHUTDOWN", func(_ *virt.Connect, d *virt.Domain, ev *virt.DomainQemuMonitorEvent) {
		if uuid, err := d.GetUUIDString(); err == nil {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.powerOff[uuid] = time.Unix(ev.Seconds, int64(ev.Micros)*1000)
		}
	}, 0)
	if err != nil {
		return nil, fmt.Errorf("listen to QEMU's monitors: %w", err)
	}
	e.lifecycle, err = conn.DomainEventLifecycleRegister(nil, func(_ *virt.Connect, d *virt.Domain, ev *virt.DomainEventLifecycle) {
		now := time.Now()
		uuid, err := d.GetUUIDString()
		if err != nil {
			return
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		switch ev.Event { //nolint:exhaustive // the others are of no interest
		case virt.DOMAIN_EVENT_SUSPENDED:
			e.halted[uuid] = now
		case virt.DOMAIN_EVENT_RESUMED:
			e.goesOn(uuid, now)
		case virt.DOMAIN_EVENT_STOPPED:
			if ch := e.stopped[uuid]; ch != nil {
				ch <- now
				delete(e.stopped, uuid)
			}
		}
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen to lifecycle events: %w", err), conn.DomainQemuEventDeregister(e.monitor))
	}
	return e, nil
}

func (e *guestEvents) close() {
	_ = e.conn.DomainEventDeregister(e.lifecycle)   //nolint:errcheck // the connection is about to be closed
	_ = e.conn.DomainQemuEventDeregister(e.monitor) //nolint:errcheck // the same
}

// goesOn ends the time in which a guest stood still. Under the mutex.
func (e *guestEvents) goesOn(uuid string, now time.Time) {
	if at, is := e.halted[uuid]; is {
		e.stood[uuid] += now.Sub(at)
		delete(e.halted, uuid)
	}
}

// stoodStill tells how long a guest stood still since it was last asked, by libvirt's events, as vmlet measures it.
func (e *guestEvents) stoodStill(uuid string) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.goesOn(uuid, time.Now())
	stood := e.stood[uuid]
	delete(e.stood, uuid)
	return stood
}

// expectStop returns a channel that gets the time at which libvirt says that a domain is
// shut off.
func (e *guestEvents) expectStop(uuid string) <-chan time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	ch := make(chan time.Time, 1)
	e.stopped[uuid] = ch
	return ch
}

// poweredOff waits until QEMU's notice that a guest has powered off is here, and returns
// the time in it.
func (e *guestEvents) poweredOff(ctx context.Context, uuid string) (time.Time, error) {
	for {
		e.mu.Lock()
		at, ok := e.powerOff[uuid]
		e.mu.Unlock()
		if ok {
			return at, nil
		}
		select {
		case <-ctx.Done():
			return at, fmt.Errorf("QEMU did not say that guest %s powered off: %w", uuid, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}
