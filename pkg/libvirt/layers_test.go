// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"slices"
	"testing"

	"libvirt.org/go/libvirtxml"
)

// TestTheEndOfAChainIsNoFile: libvirt tells a chain with an empty element at its end.
func TestTheEndOfAChainIsNoFile(t *testing.T) {
	var disk libvirtxml.DomainDisk
	if err := disk.Unmarshal(`<disk type='file'><source file='/top'/>
  <backingStore type='file'><format type='qcow2'/><source file='/layer'/>
    <backingStore type='block'><format type='raw'/><source dev='/image'/><backingStore/></backingStore>
  </backingStore>
</disk>`); err != nil {
		t.Fatal(err)
	}
	if files := below(disk.BackingStore); !slices.Equal(files, []string{"/layer", "/image"}) {
		t.Errorf("got %q", files)
	}
}
