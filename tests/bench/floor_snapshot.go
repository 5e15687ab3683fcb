// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	virt "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/libvirt/domainxml"
	"github.com/vmlet/vmlet/pkg/vm"
)

// floorSnapshot is a snapshot of a floor's pod.
type floorSnapshot struct {
	number int
	memory string
	// top is the file that the guest writes to since it was taken.
	top string
}

// snapshot has libvirt take disk and memory, by the call that vmlet makes.
func (f *floor) snapshot(p *floorPod, number int) (s floorSnapshot, err error) {
	dir := f.paths.Sandbox(p.id)
	s = floorSnapshot{number, filepath.Join(dir, fmt.Sprintf("memory-%d.save", number)), filepath.Join(dir, fmt.Sprintf("top-%d.qcow2", number))}
	order := libvirtxml.DomainSnapshot{
		Memory: &libvirtxml.DomainSnapshotMemory{Snapshot: "external", File: s.memory},
		Disks: &libvirtxml.DomainSnapshotDisks{Disks: []libvirtxml.DomainSnapshotDisk{
			{
				Name: f.model.Devices.Disks[0].Target.Dev, Snapshot: "external", Driver: &libvirtxml.DomainDiskDriver{Type: string(vm.FormatQCOW2)},
				Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: s.top}},
			},
			{Name: f.model.Devices.Disks[1].Target.Dev, Snapshot: "no"},
		}},
	}
	text, err := order.Marshal()
	if err != nil {
		return s, err
	}
	taken, err := p.domain.CreateSnapshotXML(text, virt.DOMAIN_SNAPSHOT_CREATE_NO_METADATA|virt.DOMAIN_SNAPSHOT_CREATE_LIVE)
	if err != nil {
		return s, err
	}
	p.layers = append([]vm.BackingFile{{Path: f.disk0(p), Format: vm.FormatQCOW2}}, p.layers...)
	p.top = s.top
	return s, taken.Free()
}

// disk0 is the file that the guest writes to.
func (f *floor) disk0(p *floorPod) string {
	if p.top != "" {
		return p.top
	}
	return f.root(p.id)
}

// restore ends QEMU and has another one go on in the memory of the last snapshot, on a fresh file on its disk.
func (f *floor) restore(ctx context.Context, p *floorPod, s floorSnapshot) error {
	if err := p.domain.Destroy(); err != nil {
		return err
	}
	next := filepath.Join(f.paths.Sandbox(p.id), fmt.Sprintf("restored-%d.qcow2", s.number))
	out, err := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", p.layers[0].Path, next).CombinedOutput()
	if err != nil {
		return fmt.Errorf("qemu-img: %w: %s", err, out)
	}
	text, err := f.libvirt.DomainSaveImageGetXMLDesc(s.memory, virt.DOMAIN_SAVE_IMAGE_XML_SECURE)
	if err != nil {
		return err
	}
	var saved libvirtxml.Domain
	if err := saved.Unmarshal(text); err != nil {
		return err
	}
	disk := &saved.Devices.Disks[0]
	disk.Source, disk.BackingStore = domainxml.Files(next, append(p.layers, vm.BackingFile{Path: f.base.Path, Format: f.base.Format}))
	if text, err = saved.Marshal(); err != nil {
		return err
	}
	if err := errors.Join(os.Chown(next, f.uid, f.gid), f.libvirt.DomainRestoreFlags(s.memory, text, virt.DOMAIN_SAVE_PAUSED)); err != nil {
		return err
	}
	var beside errgroup.Group
	beside.Go(func() error { return p.group.place(p.name()) })
	beside.Go(func() error { return wire(f.paths.SandboxNetNS(p.id), p.nic) })
	if err := beside.Wait(); err != nil {
		return err
	}
	p.top = next
	return p.domain.Resume()
}
