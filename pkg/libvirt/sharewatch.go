// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/vmlet/vmlet/pkg/vm"
)

// endTogether is how long QEMU may outlive its virtiofsd where both end: virtiofsd ends as
// soon as QEMU closes their socket, which is not the last that QEMU does.
const endTogether = 300 * time.Millisecond

// shareWatch sees the end of the virtiofsd of each guest that has one: neither libvirt nor
// QEMU tells of it. While it is dead, whatever the guest asks of the share hangs.
type shareWatch struct {
	h     *Hypervisor
	asked *queue[string]

	mu      sync.Mutex
	watched map[string]bool
}

func newShareWatch(h *Hypervisor) *shareWatch {
	return &shareWatch{h: h, asked: newQueue[string](), watched: map[string]bool{}}
}

// watch begins to watch a sandbox's virtiofsd, if it has one. It never blocks. Idempotent.
func (w *shareWatch) watch(id string) { w.asked.put(id) }

// run watches until ctx ends.
func (w *shareWatch) run(ctx context.Context, background *sync.WaitGroup) {
	background.Go(func() {
		for {
			id, ok := w.asked.take(ctx)
			if !ok {
				return
			}
			if w.begin(id) {
				background.Go(func() { w.follow(ctx, id) })
			}
		}
	})
}

func (w *shareWatch) begin(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.watched[id] {
		return false
	}
	w.watched[id] = true
	return true
}

// follow tells of the end of a sandbox's virtiofsd. One without, or whose QEMU has ended, is
// no news, nor is what cannot be looked at: a guest's I/O tells then.
func (w *shareWatch) follow(ctx context.Context, id string) {
	lost := w.awaitLoss(ctx, id)
	w.mu.Lock()
	delete(w.watched, id)
	w.mu.Unlock()
	if lost {
		if pids, err := findVirtiofsd(w.h.cfg.ProcRoot, id); err == nil && len(pids) > 0 {
			w.watch(id) // it was plugged again already, when we still watched the one before
		}
		w.h.events.judged.put(vm.Event{SandboxID: id, Kind: vm.EventShareLost, Detail: "virtiofsd ended", At: time.Now()})
	}
}

// awaitLoss returns when there is no virtiofsd any more: true if QEMU goes on without.
func (w *shareWatch) awaitLoss(ctx context.Context, id string) bool {
	root := w.h.cfg.ProcRoot
	q, err := openQEMU(root, id)
	if err != nil {
		return false
	}
	defer q.release()
	daemon, err := openVirtiofsd(root, id)
	if errors.Is(err, errNotActive) {
		return w.hasShare(ctx, id) // it has ended before we came
	}
	if err != nil {
		return false
	}
	defer daemon.Close() //nolint:errcheck // nothing was written
	if waitPIDFD(ctx, daemon) != nil {
		return false
	}
	ending, cancel := context.WithTimeout(ctx, endTogether)
	defer cancel()
	return errors.Is(waitPIDFD(ending, q.pidfd), context.DeadlineExceeded)
}

// hasShare tells whether a running guest has the device of a share.
func (w *shareWatch) hasShare(ctx context.Context, id string) bool {
	has, err := call(ctx, w.h.eventConn, "look for a share", id, func(s *session) (bool, error) {
		dom, err := w.h.find(s, id)
		if err != nil {
			return false, err
		}
		defer free(dom)
		f, active, err := shareOf(dom, 0)
		return active && f != nil, err
	})
	return err == nil && has
}

// openVirtiofsd takes hold of the process that ends with the service.
func openVirtiofsd(root, id string) (*os.File, error) {
	pids, err := findVirtiofsd(root, id)
	if err != nil {
		return nil, err
	}
	if len(pids) == 0 {
		return nil, errNotActive
	}
	pidfd, err := openPIDFD(pids[0])
	if err != nil {
		return nil, err
	}
	// As with QEMU: the number may have been given away meanwhile.
	if _, same, err := isVirtiofsdOf(root, pids[0], id); err != nil || !same {
		return nil, errors.Join(errNotActive, err, pidfd.Close())
	}
	return pidfd, nil
}
