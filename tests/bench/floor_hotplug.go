// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/plugins/pkg/ns"
	"golang.org/x/sys/unix"
	virt "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/libvirt/domainxml"
	"github.com/vmlet/vmlet/pkg/vm"
)

// secondNIC is the name of the NIC that is attached and detached.
const secondNIC = "eth1"

func (f *floor) secondConf(p *floorPod) *libcni.RuntimeConf {
	conf := runtimeConf(p.id, f.paths.SandboxNetNS(p.id))
	conf.IfName = secondNIC
	return conf
}

// attachNIC runs CNI ADD once more, has libvirt plug the device, and wires it.
func (f *floor) attachNIC(ctx context.Context, p *floorPod) (nic vm.NIC, err error) {
	path := f.paths.SandboxNetNS(p.id)
	result, err := f.cni.AddNetworkList(ctx, f.list, f.secondConf(p))
	if err != nil {
		return nic, fmt.Errorf("CNI ADD: %w", err)
	}
	converted, err := types100.NewResultFromResult(result)
	if err != nil {
		return nic, err
	}
	if nic, err = nicOf(converted); err != nil {
		return nic, err
	}
	nic.Name, nic.Tap = secondNIC, "flr"+p.id[:10]+"1"
	if nic.MTU, err = mtuOf(path, nic.Name); err != nil {
		return nic, err
	}
	device, err := domainxml.NIC(nic)
	if err != nil {
		return nic, err
	}
	text, err := device.Marshal()
	if err != nil {
		return nic, err
	}
	if err := p.domain.AttachDeviceFlags(text, virt.DOMAIN_DEVICE_MODIFY_LIVE); err != nil {
		return nic, err
	}
	return nic, wire(path, nic)
}

// detachNIC asks the guest to let go of it, waits for libvirt's event, runs CNI DEL, and takes its rules.
func (f *floor) detachNIC(ctx context.Context, p *floorPod, nic vm.NIC) error {
	if err := f.unplug(ctx, p, domainxml.NICAlias(nic)); err != nil {
		return err
	}
	if err := f.cni.DelNetworkList(ctx, f.list, f.secondConf(p)); err != nil {
		return err
	}
	namespace, err := ns.GetNS(f.paths.SandboxNetNS(p.id))
	if err != nil {
		return err
	}
	defer namespace.Close() //nolint:errcheck // the mount holds it
	if err := part(nic).send(int(namespace.Fd())); !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil // an older kernel, whose rules have gone with the devices
}

// unplug has the guest let go of a device.
func (f *floor) unplug(ctx context.Context, p *floorPod, alias string) error {
	removed := make(chan struct{}, 1)
	id, err := f.libvirt.DomainEventDeviceRemovedRegister(p.domain, func(_ *virt.Connect, _ *virt.Domain, ev *virt.DomainEventDeviceRemoved) {
		if ev.DevAlias == alias {
			removed <- struct{}{}
		}
	})
	if err != nil {
		return err
	}
	defer f.libvirt.DomainEventDeregister(id) //nolint:errcheck // it was registered
	if err := p.domain.DetachDeviceAlias(alias, virt.DOMAIN_DEVICE_MODIFY_LIVE); err != nil {
		return err
	}
	select {
	case <-removed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the guest does not let go of %s: %w", alias, ctx.Err())
	}
}

// addVCPU gives a guest of one CPU another, now and in its definition. Of an emulated one it first asks what tells whether QEMU would
// live through that: who does not ask loses guests.
func (f *floor) addVCPU(p *floorPod) error {
	if f.model.Type == "qemu" {
		if _, err := p.domain.QemuMonitorCommand("info jit", virt.DOMAIN_QEMU_MONITOR_COMMAND_HMP); err != nil {
			return err
		}
	}
	return p.domain.SetVcpusFlags(2, virt.DOMAIN_VCPU_LIVE|virt.DOMAIN_VCPU_CONFIG)
}

// attachDisk makes a disk, and has libvirt plug it for now and for later.
func (f *floor) attachDisk(ctx context.Context, p *floorPod, name string) (*libvirtxml.DomainDisk, error) {
	path := filepath.Join(f.paths.Sandbox(p.id), name+".qcow2")
	out, err := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", path, strconv.FormatInt(diskSize, 10)).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("qemu-img: %w: %s", err, out)
	}
	disk, err := domainxml.Disk(vm.MachineDisk{Path: path, Format: vm.FormatQCOW2, Bus: vm.BusVirtio, Target: vm.DataTarget(vm.BusVirtio, 0), Serial: name})
	if err != nil {
		return nil, err
	}
	text, err := disk.Marshal()
	if err != nil {
		return nil, err
	}
	return disk, errors.Join(os.Chown(path, f.uid, f.gid), p.domain.AttachDeviceFlags(text, virt.DOMAIN_DEVICE_MODIFY_LIVE|virt.DOMAIN_DEVICE_MODIFY_CONFIG))
}

// detachDisk takes it away again.
func (f *floor) detachDisk(ctx context.Context, p *floorPod, disk *libvirtxml.DomainDisk) error {
	text, err := p.domain.GetXMLDesc(0)
	if err != nil {
		return err
	}
	var live libvirtxml.Domain
	if err := live.Unmarshal(text); err != nil {
		return err
	}
	for _, d := range live.Devices.Disks {
		if d.Target.Dev == disk.Target.Dev {
			if err := f.unplug(ctx, p, d.Alias.Name); err != nil {
				return err
			}
		}
	}
	if text, err = disk.Marshal(); err != nil {
		return err
	}
	return errors.Join(p.domain.DetachDeviceFlags(text, virt.DOMAIN_DEVICE_MODIFY_CONFIG), os.Remove(disk.Source.File.File))
}
