// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	virt "libvirt.org/go/libvirt"
)

// termTimeout is how long QEMU may take to end by SIGTERM, which is mostly some 5 ms,
// before it is left to libvirt: that sends SIGKILL after 10 s.
const termTimeout = time.Second

// holdTimeout is how long libvirt does not hear of the end of a QEMU that has ended by
// SIGTERM; virDomainDestroy takes some 15 ms of it.
const holdTimeout = 500 * time.Millisecond

// Destroy implements lifecycle.Hypervisor. virDomainDestroy sends SIGTERM and looks for
// the process every 200 ms; so the signal is sent before, and libvirt finds it done: 16 ms
// instead of 215, with the same events, reason and log line. QEMU gets SIGTERM and not
// SIGKILL so that it writes what a guest's disks have in its caches.
func (h *Hypervisor) Destroy(ctx context.Context, id string) error {
	err := h.with(ctx, "look at domain", id, requireActive)
	if errdefs.IsNotFound(err) || errors.Is(err, errNotActive) {
		return nil
	}
	if err != nil {
		return err
	}
	if q, err := openQEMU(h.cfg.ProcRoot, id); err == nil {
		release := sync.OnceFunc(q.release)
		defer release()
		// What fails here is no failure of Destroy: libvirt does all of it again, slower.
		// It must see QEMU's end of the monitor close then: whoever waits for an answer there,
		// such as a power button that QEMU never heard, holds the domain until it does. Also
		// where QEMU has ended, for a Destroy that waits for that one.
		if q.terminate(ctx) != nil {
			release()
		}
		defer time.AfterFunc(holdTimeout, release).Stop()
	}
	err = h.with(ctx, "destroy domain", id, func(dom *virt.Domain) error {
		err := dom.Destroy()
		if hasCode(err, virt.ERR_OPERATION_INVALID) {
			return nil // it has ended by itself
		}
		return err
	})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// terminate ends QEMU while libvirt looks away.
func (q *qemu) terminate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, termTimeout)
	defer cancel()
	if err := q.holdSockets(); err != nil {
		return err
	}
	if err := q.signal(unix.SIGTERM); err != nil {
		return err
	}
	return q.wait(ctx)
}

// AwaitExit returns when the domain's QEMU has ended, for whatever reason, or with ctx's
// error. Whoever has asked a guest to power off and waits here gets EventStopped some 10 ms
// after the guest's end, and not after libvirt's 200 ms. nil for a domain that is absent
// or not active.
func (h *Hypervisor) AwaitExit(ctx context.Context, id string) error {
	err := h.with(ctx, "look at domain", id, requireActive)
	if errdefs.IsNotFound(err) || errors.Is(err, errNotActive) {
		return nil
	}
	if err != nil {
		return err
	}
	q, err := openQEMU(h.cfg.ProcRoot, id)
	if errors.Is(err, errNotActive) {
		return nil
	}
	if err != nil {
		return err
	}
	defer q.release()
	// Without the right to do so the event comes when libvirt sends it.
	_ = q.holdSockets() //nolint:errcheck // see above
	return q.wait(ctx)
}
