// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// newsKept is how many events can be read again. A node of 250 pods that all start has some 1500.
const newsKept = 4096

// sameReboot is how long libvirt may go on telling of one reboot.
const sameReboot = time.Second

// news are the last events of VMs, and each VM as it is after the last of them. Both change under one lock, so that who
// reads the VMs and then the events after that misses none and sees nothing twice. Whoever tells never waits for a reader:
// readers come for the events at their own pace.
type news struct {
	// epoch is random: a token of an earlier life of vmlet is known by it.
	epoch string
	kept  uint64

	mu   sync.Mutex
	vms  map[string]*vmView
	ring []vm.VMEvent // event n is at n % kept
	next uint64       // the number of the next event; the first has 0
	// changed is closed with the next event, nil while nobody waits.
	changed chan struct{}
}

// vmView is a VM as clients were told of it.
type vmView struct {
	vm.VMStatus
	// halted: the pause that is on record is done.
	halted bool
	// rebooted is when a reboot was told last.
	rebooted time.Time
}

func newNews(kept uint64) *news {
	return &news{epoch: rand.Text()[:10], kept: kept, vms: map[string]*vmView{}}
}

// add appends an event. mu is held.
func (n *news) add(e vm.VMEvent) {
	if uint64(len(n.ring)) < n.kept {
		n.ring = append(n.ring, e)
	} else {
		n.ring[n.next%n.kept] = e
	}
	n.next++
	if n.changed != nil {
		close(n.changed)
		n.changed = nil
	}
}

// tell adds an event to what is known of its VM.
func (n *news) tell(e vm.VMEvent, at time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tellOf(n.vms[e.SandboxID], e, at)
}

// tellOf is tell for a VM that may be unknown, nil. mu is held.
func (n *news) tellOf(v *vmView, e vm.VMEvent, at time.Time) {
	e.At = at
	if v == nil {
		n.add(e)
		return
	}
	up := v.State == vm.VMRunning || v.State == vm.VMPaused
	switch e.Kind {
	case vm.VMPausedEvent:
		if v.halted || !up {
			return
		}
		v.halted, v.State = true, vm.VMPaused
	case vm.VMRebootedEvent:
		if !up || e.BootID == "" && (v.BootID != "" || at.Sub(v.rebooted) < sameReboot) {
			return // vmlet-agent will tell, or libvirt has
		}
		v.rebooted = at
	case vm.VMRebootFailedEvent:
		if !up {
			return // and was told of
		}
	default:
	}
	e.Namespace, e.Pod, e.ContainerID = v.Namespace, v.Pod, v.ContainerID
	n.add(e)
}

// present returns each VM as it is, and the number of the event that comes next.
func (n *news) present(sandboxID string) ([]vm.VMStatus, uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []vm.VMStatus
	for id, v := range n.vms {
		if sandboxID == "" || id == sandboxID {
			out = append(out, v.VMStatus)
		}
	}
	slices.SortFunc(out, func(a, b vm.VMStatus) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Pod, b.Pod), cmp.Compare(a.SandboxID, b.SandboxID))
	})
	return out, n.next
}

// one returns a VM as it is.
func (n *news) one(sandboxID string) (vm.VMStatus, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if v := n.vms[sandboxID]; v != nil {
		return v.VMStatus, true
	}
	return vm.VMStatus{}, false
}

// after returns events from number at on, not more than most. Without any there is a channel that is closed when one
// comes. OutOfRange if some of them are not kept any more.
func (n *news) after(at uint64, most int) ([]vm.VMEvent, <-chan struct{}, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if at+uint64(len(n.ring)) < n.next {
		return nil, nil, fmt.Errorf("%d events came since and the first of them are forgotten: %w", n.next-at, errEventsLost)
	}
	if at == n.next {
		if n.changed == nil {
			n.changed = make(chan struct{})
		}
		return nil, n.changed, nil
	}
	var out []vm.VMEvent
	for ; at < n.next && len(out) < most; at++ {
		out = append(out, n.ring[at%n.kept])
	}
	return out, nil, nil
}

// errEventsLost tells a client what to do.
var errEventsLost = fmt.Errorf("events are lost: watch anew without a token, which tells each VM as it is first: %w", errdefs.ErrOutOfRange)

// token names the place before event number at.
func (n *news) token(at uint64) string { return n.epoch + "." + strconv.FormatUint(at, 10) }

// place reads a token.
func (n *news) place(token string) (uint64, error) {
	epoch, number, ok := strings.Cut(token, ".")
	at, err := strconv.ParseUint(number, 10, 64)
	if !ok || err != nil || len(epoch) != len(n.epoch) {
		return 0, fmt.Errorf("%q is no token of a watch: %w", token, errdefs.ErrInvalidArgument)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if epoch != n.epoch || at > n.next {
		return 0, fmt.Errorf("vmlet was restarted since: %w", errEventsLost)
	}
	return at, nil
}
