// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"fmt"
	"testing"
	"time"

	virt "libvirt.org/go/libvirt"

	"github.com/vmlet/vmlet/pkg/libvirt/domainxml"
	"github.com/vmlet/vmlet/pkg/vm"
)

// The tests without the integration tag run against libvirt's own test driver: real
// library, real events, domains that are only in this process. It knows no flags and no
// XML for QEMU, so domains are made behind the Hypervisor's back.

const (
	testURI       = "test:///default"
	testNodeOwner = "unit-test"
)

func newTestHypervisor(t *testing.T) *Hypervisor {
	t.Helper()
	h, err := New(t.Context(), Config{
		URI: testURI, Owner: testNodeOwner, LogDir: t.TempDir(), ProcRoot: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// stranger is another client of the same libvirt.
type stranger struct {
	t *testing.T
	*virt.Connect
}

func newStranger(t *testing.T) stranger {
	t.Helper()
	// The test driver forgets its domains with its last connection.
	release, err := theLoop.acquire()
	if err != nil {
		t.Fatal(err)
	}
	c, err := virt.NewConnect(testURI)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := release(); err != nil {
			t.Error(err)
		}
	})
	return stranger{t, c}
}

// define makes a domain; no owner is no mark.
func (s stranger) define(name, id, owner string) *virt.Domain {
	s.t.Helper()
	mark := ""
	if owner != "" {
		mark = fmt.Sprintf(`<v:sandbox xmlns:v=%q id=%q owner=%q/>`, domainxml.Namespace, id, owner)
	}
	dom, err := s.DomainDefineXML(fmt.Sprintf(
		`<domain type='test'><name>%s</name><uuid>%s</uuid><metadata>%s</metadata><memory>1024</memory><os><type>hvm</type></os></domain>`,
		name, vm.UUIDFromID(id), mark))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		defer free(dom)
		for _, end := range []func() error{dom.Destroy, dom.Undefine} {
			if err := end(); err != nil && !hasCode(err, virt.ERR_OPERATION_INVALID) && !hasCode(err, virt.ERR_NO_DOMAIN) {
				s.t.Error(err)
			}
		}
	})
	return dom
}

// ours makes a domain as Define does.
func (s stranger) ours(id string) *virt.Domain {
	s.t.Helper()
	return s.define(vm.DomainName(id), id, testNodeOwner)
}

// must fails the test if a step of it does.
func (s stranger) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// nextEvent fails the test if no event comes.
func nextEvent(t *testing.T, h *Hypervisor) vm.Event {
	t.Helper()
	select {
	case ev := <-h.Events():
		return ev
	case <-time.After(10 * time.Second):
		t.Fatal("no event comes")
		return vm.Event{}
	}
}
