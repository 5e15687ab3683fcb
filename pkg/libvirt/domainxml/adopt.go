// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Adopt gives the XML that a machine's memory was saved with the identity of another one, and its taps: nics are those of the
// saved machine, and each becomes the one of its name. What the guest sees stays as it was saved, but for the MACs, which it sees
// after its next reset. loaders are the files of this node's UEFI: libvirt looks for one when a machine boots, and does not when
// one goes on, so it stays as it was saved. FailedPrecondition for a machine that is not one of ours, or has other disks, NICs or
// firmware than m.
func Adopt(text string, m vm.Machine, nics []vm.NIC, loaders []string) (string, error) {
	now, err := Domain(m)
	if err != nil {
		return "", err
	}
	var saved libvirtxml.Domain
	if err := saved.Unmarshal(text); err != nil {
		return "", fmt.Errorf("the XML of the saved machine: %w: %w", err, errdefs.ErrFailedPrecondition)
	}
	if err := adoptable(&saved, now); err != nil {
		return "", err
	}
	if err := adoptFirmware(&saved, now, loaders); err != nil {
		return "", err
	}
	if err := adoptNICs(saved.Devices.Interfaces, nics, now.Devices.Interfaces, m.NICs); err != nil {
		return "", err
	}
	saved.Name, saved.UUID, saved.Title, saved.Description, saved.Metadata = now.Name, now.UUID, now.Title, now.Description, now.Metadata
	saved.ID = nil
	saved.Devices.Emulator = "" // libvirt finds that of this node
	return saved.Marshal()
}

// adoptFirmware gives the saved machine the variables of this one. Its loader is a file that QEMU opens: only what libvirt would
// choose here is taken.
func adoptFirmware(saved, now *libvirtxml.Domain, loaders []string) error {
	if now.OS.NVRam == nil {
		if saved.OS.Loader != nil || saved.OS.NVRam != nil {
			return foreign("it boots by UEFI, and this one by BIOS")
		}
		return nil
	}
	switch l := saved.OS.Loader; {
	case l == nil || saved.OS.NVRam == nil:
		return foreign("it boots by BIOS, and this one by UEFI")
	case l.Type != "pflash" || l.Readonly != "yes" || !slices.Contains(loaders, l.Path):
		return foreign(fmt.Sprintf("its UEFI is %s, and this node has %s", l.Path, strings.Join(loaders, ", ")))
	}
	saved.OS.NVRam = &libvirtxml.DomainNVRam{NVRam: now.OS.NVRam.NVRam}
	return nil
}

// adoptNICs gives each saved device the MAC and the tap that the NIC of its name has now. Their order is no help: a NIC that was
// detached and attached again is another device of the saved machine, in another place. now are the devices of nowNICs.
func adoptNICs(saved []libvirtxml.DomainInterface, savedNICs []vm.NIC, now []libvirtxml.DomainInterface, nowNICs []vm.NIC) error {
	taken := map[int]bool{}
	for i := range saved {
		was := &saved[i]
		is := -1
		for _, nic := range savedNICs {
			if was.Target != nil && was.Target.Dev == nic.Tap {
				is = slices.IndexFunc(nowNICs, func(n vm.NIC) bool { return n.Name == nic.Name })
			}
		}
		if is < 0 || taken[is] {
			return foreign("its NICs are not those that the checkpoint lists")
		}
		taken[is] = true
		was.MAC, was.Target, was.Alias, was.Source = now[is].MAC, now[is].Target, now[is].Alias, now[is].Source
	}
	return nil
}

// adoptable refuses what would give a guest more of this host than a machine of ours does.
func adoptable(saved, now *libvirtxml.Domain) error {
	d := saved.Devices
	if d == nil || saved.OS == nil {
		return foreign("it has no devices")
	}
	for what, is := range map[string]bool{
		"devices of the host":              len(d.Hostdevs)+len(d.RedirDevs)+len(d.Smartcards)+len(d.TPMs) > 0,
		"a file system by virtio":          len(d.Filesystems) > 0,
		"shared memory":                    len(d.Shmems) > 0,
		"memory of another kind than ours": len(d.Memorydevs) != len(now.Devices.Memorydevs) || slices.ContainsFunc(d.Memorydevs, isForeignMemory),
		"arguments of QEMU's own":          saved.QEMUCommandline != nil || saved.QEMUOverride != nil,
		"a kernel of the host's":           saved.OS.Kernel+saved.OS.Initrd+saved.OS.DTB+saved.OS.Shim != "" || saved.OS.VarStore != nil,
		"a parallel port":                  len(d.Parallels) > 0,
		"more than one serial port, or a port that none of ours has": len(d.Serials) != len(now.Devices.Serials) || len(d.Channels) != len(now.Devices.Channels),
	} {
		if is {
			return foreign("it has " + what)
		}
	}
	if len(d.Disks) != len(now.Devices.Disks) || len(d.Interfaces) != len(now.Devices.Interfaces) {
		return foreign(fmt.Sprintf("it has %d disks and %d NICs, and this one has %d and %d",
			len(d.Disks), len(d.Interfaces), len(now.Devices.Disks), len(now.Devices.Interfaces)))
	}
	return nil
}

// isForeignMemory tells memory that is a file or a device of the host from what a guest's headroom is made of.
func isForeignMemory(d libvirtxml.DomainMemorydev) bool {
	return d.Model != VirtioMem || d.Source != nil
}

func foreign(why string) error {
	return fmt.Errorf("the memory is of a machine that cannot go on here: %s: %w", why, errdefs.ErrFailedPrecondition)
}
