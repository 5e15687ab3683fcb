// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"errors"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"

	"github.com/vmlet/vmlet/pkg/vm"
)

// handlesOf counts the handles of a domain that are kept.
func handlesOf(t *testing.T, h *Hypervisor, uuid string) (kept int) {
	t.Helper()
	for _, c := range h.conns() {
		s, err := c.session()
		if err != nil {
			t.Fatal(err)
		}
		if dom, err := s.handles.kept(uuid); err != nil {
			t.Error(err)
		} else if dom != nil {
			free(dom)
			kept++
		}
		s.leave()
	}
	return kept
}

// A domain is looked up once on a connection, and judged with each call.
func TestADomainIsLookedUpOnce(t *testing.T) {
	s, h := newStranger(t), newTestHypervisor(t)
	dom := s.ours(testID)
	uuid := vm.UUIDFromID(testID)
	lookUp := func(uuid string) (*virt.Domain, error) {
		t.Error("it is looked up again")
		return nil, errdefs.ErrInternal
	}
	for range 3 {
		_, err := h.Domain(t.Context(), testID)
		s.must(err)
	}
	if n := handlesOf(t, h, uuid); n == 0 {
		t.Fatal("no handle is kept")
	}
	session, err := h.domains.session()
	s.must(err)
	defer session.leave()
	again, err := session.handles.get(uuid, lookUp)
	s.must(err)
	free(again)

	s.define(vm.DomainName(testID), testID, "another node")
	if _, err := h.Domain(t.Context(), testID); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("a domain that is another's now: error = %v, want FailedPrecondition", err)
	}
	s.must(dom.Undefine())
	if d, err := h.Domain(t.Context(), testID); err != nil || d.State != vm.DomainAbsent {
		t.Errorf("a domain that is gone: %+v, %v", d, err)
	}
	if session.handles.byUUID[uuid] != nil {
		t.Error("the handle of a domain that is gone is kept")
	}
}

func TestHandlesGoWithTheirDomain(t *testing.T) {
	s, h := newStranger(t), newTestHypervisor(t)
	dom := s.ours(testID)
	uuid := vm.UUIDFromID(testID)
	s.must(dom.Create())
	expect(t, h, testID, vm.EventStarted, "booted")
	_, err := h.Domain(t.Context(), testID)
	s.must(err)
	s.must(dom.Destroy())
	s.must(dom.Undefine())
	expect(t, h, testID, vm.EventStopped, "destroyed")
	// What comes after it has been judged after it.
	other := strings.Repeat("a", 32)
	s.must(s.ours(other).Create())
	expect(t, h, other, vm.EventStarted, "booted")
	if n := handlesOf(t, h, uuid); n != 0 {
		t.Errorf("%d handles of a domain that is gone are kept", n)
	}
}

// A handle that is left keeps its connection open.
func TestHandlesGoWithTheirSession(t *testing.T) {
	s, h := newStranger(t), newTestHypervisor(t)
	s.ours(testID)
	session, err := openSession(testURI, ping)
	s.must(err)
	dom, err := h.find(session, testID)
	s.must(err)
	free(dom)
	session.leave()
	if n := len(session.handles.byUUID); n != 0 {
		t.Errorf("%d handles are kept", n)
	}
}
