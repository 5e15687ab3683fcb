// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/vm"
)

// attach makes a network namespace, mounts it where plugins find it, has it say nothing of
// its own, and runs CNI ADD.
func (f *floor) attach(ctx context.Context, id string) (vm.NIC, error) {
	path := f.paths.SandboxNetNS(id)
	if err := makeNetNS(path); err != nil {
		return vm.NIC{}, err
	}
	result, err := f.cni.AddNetworkList(ctx, f.list, runtimeConf(id, path))
	if err != nil {
		return vm.NIC{}, fmt.Errorf("CNI ADD: %w", err)
	}
	converted, err := types100.NewResultFromResult(result)
	if err != nil {
		return vm.NIC{}, err
	}
	nic, err := nicOf(converted)
	if err != nil {
		return vm.NIC{}, err
	}
	nic.Tap = "flr" + id[:10] + "0"
	nic.MTU, err = mtuOf(path, nic.Name)
	return nic, err
}

func (f *floor) detach(ctx context.Context, id string) error {
	path := f.paths.SandboxNetNS(id)
	return errors.Join(
		f.cni.DelNetworkList(ctx, f.list, runtimeConf(id, path)),
		unix.Unmount(path, unix.MNT_DETACH),
		os.Remove(path),
	)
}

func runtimeConf(id, netnsPath string) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: id, NetNS: netnsPath, IfName: "eth0"}
}

func makeNetNS(path string) error {
	if err := os.WriteFile(path, nil, 0o444); err != nil { //nolint:gosec // but a place to mount on
		return err
	}
	// TempNetNS gives its thread back as it was: the end of a thread would be the end of
	// the daemon that it started.
	namespace, err := ns.TempNetNS()
	if err != nil {
		return err
	}
	defer namespace.Close() //nolint:errcheck // the mount holds it
	if err := mute().send(int(namespace.Fd())); err != nil {
		return fmt.Errorf("mute: %w", err)
	}
	err = namespace.Do(func(ns.NetNS) error {
		return os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0o600)
	})
	if err != nil {
		return err
	}
	return unix.Mount(fmt.Sprintf("/proc/self/fd/%d", namespace.Fd()), path, "", unix.MS_BIND, "")
}

// nicOf reads the guest's side off the result of an ADD.
func nicOf(result *types100.Result) (vm.NIC, error) {
	nic := vm.NIC{Name: "eth0"}
	for _, i := range result.Interfaces {
		if i.Sandbox != "" {
			nic.MAC = i.Mac
		}
	}
	for _, ip := range result.IPs {
		ones, _ := ip.Address.Mask.Size()
		nic.IPs = append(nic.IPs, vm.NICAddress{Prefix: netip.PrefixFrom(addrOf(ip.Address.IP), ones), Gateway: addrOf(ip.Gateway)})
	}
	for _, r := range result.Routes {
		ones, _ := r.Dst.Mask.Size()
		nic.Routes = append(nic.Routes, vm.Route{To: netip.PrefixFrom(addrOf(r.Dst.IP), ones), Via: addrOf(r.GW)})
	}
	if nic.MAC == "" || len(nic.IPs) == 0 {
		return nic, fmt.Errorf("the plugins made no interface with an address: %v", result)
	}
	return nic, nil
}

// mtuOf asks the kernel: not all plugins tell.
func mtuOf(path, name string) (mtu int, err error) {
	err = ns.WithNetNSPath(path, func(ns.NetNS) error {
		link, err := netlink.LinkByName(name)
		if err == nil {
			mtu = link.Attrs().MTU
		}
		return err
	})
	return mtu, err
}

func addrOf(ip net.IP) netip.Addr {
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}

// wire moves a NIC's tap into the network namespace and joins the two.
func wire(path string, nic vm.NIC) error {
	namespace, err := ns.GetNS(path)
	if err != nil {
		return err
	}
	defer namespace.Close() //nolint:errcheck // the mount holds it
	tap, err := netlink.LinkByName(nic.Tap)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetNsFd(tap, int(namespace.Fd())); err != nil {
		return fmt.Errorf("move tap: %w", err)
	}
	var inside *netlink.Handle
	if err := namespace.Do(func(ns.NetNS) (err error) { inside, err = netlink.NewHandle(unix.NETLINK_ROUTE); return err }); err != nil {
		return err
	}
	defer inside.Close()
	// It may have got another index on its way.
	if tap, err = inside.LinkByName(nic.Tap); err != nil {
		return err
	}
	eth, err := inside.LinkByName(nic.Name)
	if err != nil {
		return err
	}
	if err := join(nic, uint32(eth.Attrs().Index), uint32(tap.Attrs().Index)).send(int(namespace.Fd())); err != nil {
		return fmt.Errorf("rules: %w", err)
	}
	return inside.LinkSetUp(tap)
}
