// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"encoding/hex"
	"fmt"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"

	"github.com/vmlet/vmlet/pkg/libvirt/domainxml"
	"github.com/vmlet/vmlet/pkg/vm"
)

// find looks a sandbox's domain up and makes sure that it is ours: NotFound if there is
// none, FailedPrecondition if its UUID or its name belongs to a domain of someone else.
// The caller frees it.
func (h *Hypervisor) find(s *session, id string) (*virt.Domain, error) {
	if !isID(id) {
		return nil, fmt.Errorf("%q is not the ID of a sandbox: %w", id, errdefs.ErrNotFound)
	}
	uuid := vm.UUIDFromID(id)
	dom, err := s.handles.get(uuid, s.LookupDomainByUUIDString)
	if hasCode(err, virt.ERR_NO_DOMAIN) {
		return nil, explainAbsence(s, id, err)
	}
	if err != nil {
		return nil, fmt.Errorf("look up the domain: %w", err)
	}
	mark, err := markOf(dom) // also tells whether there is one
	switch {
	case hasCode(err, virt.ERR_NO_DOMAIN):
		s.handles.drop(uuid)
		err = explainAbsence(s, id, err)
	case err == nil && (mark.Owner != h.cfg.Owner || mark.SandboxID != id):
		err = notOurs(uuid)
	}
	if err != nil {
		free(dom)
		return nil, err
	}
	return dom, nil
}

// isID tells whether a text could be the ID of a sandbox, which as a UUID names a domain.
func isID(text string) bool {
	raw, err := hex.DecodeString(text)
	return err == nil && len(raw) == 16
}

// explainAbsence is the error for a sandbox whose UUID no domain has: there may be a foreign
// one of its name.
func explainAbsence(s *session, id string, notFound error) error {
	name := vm.DomainName(id)
	dom, err := s.LookupDomainByName(name)
	switch {
	case err == nil:
		free(dom)
		return notOurs(name)
	case hasCode(err, virt.ERR_NO_DOMAIN):
		return fmt.Errorf("look up the domain: %w", notFound)
	default:
		return fmt.Errorf("look up the domain by name: %w", err)
	}
}

// markOf reads a domain's mark; one without is FailedPrecondition.
func markOf(dom *virt.Domain) (domainxml.Mark, error) {
	text, err := dom.GetMetadata(virt.DOMAIN_METADATA_ELEMENT, domainxml.Namespace, virt.DOMAIN_AFFECT_CURRENT)
	if hasCode(err, virt.ERR_NO_DOMAIN_METADATA) {
		name, err := dom.GetName()
		if err != nil {
			return domainxml.Mark{}, fmt.Errorf("read the name of a domain without a mark: %w", err)
		}
		return domainxml.Mark{}, notOurs(name)
	}
	if err != nil {
		return domainxml.Mark{}, fmt.Errorf("read the owner's mark: %w", err)
	}
	mark, err := domainxml.ParseMark(text)
	if err != nil {
		return domainxml.Mark{}, fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
	}
	return mark, nil
}

func notOurs(which string) error {
	return fmt.Errorf("domain %s is not ours, so it is left alone: %w", which, errdefs.ErrFailedPrecondition)
}

// free drops a domain object. It fails only for an object that is not one.
func free(dom *virt.Domain) {
	_ = dom.Free() //nolint:errcheck // there is nothing to free then
}
