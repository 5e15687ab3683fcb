// SPDX-License-Identifier: Apache-2.0

package libvirt

import "sync"

// presence is how a domain is there: as a definition, as a running QEMU, or both.
type presence struct{ defined, active bool }

// ownedSet remembers our domains by UUID, for events of domains that are gone by the time
// we look at them. The events themselves say when one can be forgotten: the domain may be
// out of libvirt's list a moment before its last event is sent.
type ownedSet struct {
	mu      sync.Mutex
	domains map[string]presence
}

func (o *ownedSet) has(uuid string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.domains[uuid]
	return ok
}

func (o *ownedSet) set(uuid string, p presence) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.domains == nil {
		o.domains = map[string]presence{}
	}
	o.domains[uuid] = p
}

func (o *ownedSet) forget(uuid string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.domains, uuid)
}

// change applies what an event says of a domain that is in the set.
func (o *ownedSet) change(uuid string, apply func(*presence)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p, ok := o.domains[uuid]
	if !ok {
		return
	}
	apply(&p)
	if p == (presence{}) {
		delete(o.domains, uuid)
		return
	}
	o.domains[uuid] = p
}
