// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDomainCapabilitiesListWhatIsSupported(t *testing.T) {
	caps, err := capabilitiesIn(`<domainCapabilities>
  <path>/usr/bin/qemu-system-x86_64</path>
  <os supported='yes'>
    <enum name='firmware'><value>efi</value></enum>
    <loader supported='yes'><value>/usr/share/OVMF/OVMF_CODE_4M.ms.fd</value><value>/usr/share/OVMF/OVMF_CODE_4M.fd</value></loader>
  </os>
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
	if diff := cmp.Diff(want, devicesIn(caps)); diff != "" {
		t.Error(diff)
	}
	firmwares, loaders := firmwareIn(caps)
	if !slices.Equal(firmwares, []string{"efi"}) || len(loaders) != 2 || loaders[1] != "/usr/share/OVMF/OVMF_CODE_4M.fd" {
		t.Errorf("firmware %v, %v", firmwares, loaders)
	}
	if _, err := capabilitiesIn("no XML"); err == nil {
		t.Error("what is no XML is read")
	}
}

func TestDomainCapabilitiesOfAHostWithLittle(t *testing.T) {
	for name, text := range map[string]string{
		"nothing": "<domainCapabilities/>",
		"no UEFI": `<domainCapabilities><os supported='yes'><enum name='firmware'/><loader supported='no'><value>/x</value></loader></os></domainCapabilities>`,
		"no BIOS": `<domainCapabilities><os supported='no'><enum name='firmware'><value>efi</value></enum></os></domainCapabilities>`,
	} {
		caps, err := capabilitiesIn(text)
		if err != nil {
			t.Fatal(err)
		}
		firmwares, loaders := firmwareIn(caps)
		if got := devicesIn(caps); len(got)+len(firmwares)+len(loaders) != 0 {
			t.Errorf("%s: %v, %v, %v", name, got, firmwares, loaders)
		}
	}
}
