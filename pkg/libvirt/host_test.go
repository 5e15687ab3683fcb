// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDomainCapabilitiesListWhatIsSupported(t *testing.T) {
	got, err := devicesIn(`<domainCapabilities>
  <path>/usr/bin/qemu-system-x86_64</path>
  <devices>
    <graphics supported='yes'><enum name='type'><value>vnc</value><value>dbus</value></enum></graphics>
    <filesystem supported='yes'><enum name='driverType'><value>path</value><value>virtiofs</value></enum></filesystem>
    <tpm supported='no'><enum name='model'><value>tpm-crb</value></enum></tpm>
  </devices>
</domainCapabilities>`)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{"graphics.type": {"vnc", "dbus"}, "filesystem.driverType": {"path", "virtiofs"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got, err := devicesIn("<domainCapabilities/>"); err != nil || len(got) != 0 {
		t.Errorf("no devices: %v, %v", got, err)
	}
	if _, err := devicesIn("no XML"); err == nil {
		t.Error("what is no XML is read")
	}
}
