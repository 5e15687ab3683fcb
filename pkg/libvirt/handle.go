// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"sync"

	virt "libvirt.org/go/libvirt"
)

// handles are of domains that were looked up on a connection, by UUID: a lookup takes as long as any other call. A handle is a name
// for a domain and no more: whether there is one, and whose, the next call with it tells. It is safe for concurrent use.
type handles struct {
	mu     sync.Mutex
	byUUID map[string]*virt.Domain
}

// get returns a handle that its caller frees, looked up if there is none yet.
func (h *handles) get(uuid string, lookUp func(uuid string) (*virt.Domain, error)) (*virt.Domain, error) {
	if dom, err := h.kept(uuid); dom != nil || err != nil {
		return dom, err
	}
	dom, err := lookUp(uuid)
	if err != nil {
		return nil, err
	}
	if err := h.keep(uuid, dom); err != nil {
		free(dom)
		return nil, err
	}
	return dom, nil
}

func (h *handles) kept(uuid string) (*virt.Domain, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	dom := h.byUUID[uuid]
	if dom == nil {
		return nil, nil
	}
	if err := dom.Ref(); err != nil {
		return nil, err
	}
	return dom, nil
}

func (h *handles) keep(uuid string, dom *virt.Domain) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.byUUID[uuid] != nil {
		return nil // another call was faster
	}
	if err := dom.Ref(); err != nil {
		return err
	}
	if h.byUUID == nil {
		h.byUUID = map[string]*virt.Domain{}
	}
	h.byUUID[uuid] = dom
	return nil
}

// drop forgets a handle, that of a domain that is gone.
func (h *handles) drop(uuid string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if dom := h.byUUID[uuid]; dom != nil {
		free(dom)
		delete(h.byUUID, uuid)
	}
}

// dropAll forgets them all: each keeps the connection.
func (h *handles) dropAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, dom := range h.byUUID {
		free(dom)
	}
	h.byUUID = nil
}
