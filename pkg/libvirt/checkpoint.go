// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"fmt"

	virt "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/libvirt/domainxml"
	"github.com/vmlet/vmlet/pkg/vm"
)

// SavedMachine implements lifecycle.Hypervisor.
func (h *Hypervisor) SavedMachine(ctx context.Context, memory string) (string, error) {
	return call(ctx, h.layers, "look at a saved machine", "", func(s *session) (string, error) {
		text, err := s.DomainSaveImageGetXMLDesc(memory, virt.DOMAIN_SAVE_IMAGE_XML_SECURE)
		if err != nil {
			return "", err
		}
		var saved libvirtxml.Domain
		if err := saved.Unmarshal(text); err != nil {
			return "", fmt.Errorf("read the XML in %s: %w", memory, err)
		}
		if saved.OS == nil || saved.OS.Type == nil {
			return "", nil
		}
		return saved.OS.Type.Machine, nil
	})
}

// Adopt implements lifecycle.Hypervisor. libvirt refuses to restore memory under another name or UUID, and to rename what
// is in its file (virDomainDefCheckABIStability): so it is told that it was saved under these.
func (*Hypervisor) Adopt(xml string, m vm.Machine, nics []vm.NIC, loaders []string) (string, error) {
	return domainxml.Adopt(xml, m, nics, loaders)
}
