// SPDX-License-Identifier: Apache-2.0

//go:build integration

package libvirt

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	virt "libvirt.org/go/libvirt"

	"github.com/vmlet/vmlet/pkg/libvirt/domainxml"
	"github.com/vmlet/vmlet/pkg/vm"
)

// TestANICThatADeadLibvirtdHasLeft: QEMU has the tap, or the device too, and libvirt knows nothing of it. Both are taken back, and the
// NIC can be plugged.
func TestANICThatADeadLibvirtdHasLeft(t *testing.T) {
	h := newHypervisor(t, testOwner)
	g := newGuest(t, h, nil)
	g.start()
	ctx := testContext(t)
	nic := vm.NIC{Name: "eth1", Tap: "vml" + g.id[:10] + "1", MAC: "02:00:00:00:00:02", MTU: 1450}

	g.strand(nic, false)
	if err := h.PlugNIC(ctx, g.id, nic); err != nil {
		t.Fatalf("plug it on a tap that was left: %v", err)
	}
	g.letGo(nic)

	g.strand(nic, true)
	if err := h.PlugNIC(ctx, g.id, nic); !errdefs.IsUnavailable(err) {
		t.Errorf("plug it while the guest has a device of the name: %v", err)
	}
	g.letGo(nic)
	if _, err := net.InterfaceByName(nic.Tap); err == nil {
		t.Error("the tap is left")
	}
	if err := h.PlugNIC(ctx, g.id, nic); err != nil {
		t.Errorf("plug it again: %v", err)
	}
	g.letGo(nic)
}

// TestANICThatIsWiredIsPluggedOnce: its tap is in another namespace, where nobody looks for it.
func TestANICThatIsWiredIsPluggedOnce(t *testing.T) {
	h := newHypervisor(t, testOwner)
	g := newGuest(t, h, nil)
	g.start()
	ctx := testContext(t)
	nic := vm.NIC{Name: "eth1", Tap: "vml" + g.id[:10] + "1", MAC: "02:00:00:00:00:02", MTU: 1450}
	g.must(h.PlugNIC(ctx, g.id, nic))
	netns := otherNetNS(t)
	tap, err := netlink.LinkByName(nic.Tap)
	g.must(err)
	g.must(netlink.LinkSetNsFd(tap, int(netns.Fd())))

	if err := h.PlugNIC(ctx, g.id, nic); err != nil {
		t.Errorf("plug it again: %v", err)
	}
	g.withMonitor(func(dom *virt.Domain) {
		if all, err := interfacesOf(dom, 0); err != nil || len(all) != 1 {
			t.Errorf("the machine has %d NICs, %v, want 1", len(all), err)
		}
	})
	if _, err := net.InterfaceByName(nic.Tap); err == nil {
		t.Error("there is a second tap")
	}
	g.letGo(nic)
}

// otherNetNS is a network namespace that goes with the test.
func otherNetNS(t *testing.T) *os.File {
	t.Helper()
	made := make(chan error, 1)
	var netns *os.File
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			netns, err = os.Open("/proc/thread-self/ns/net")
		}
		made <- err
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netns.Close() }) //nolint:errcheck // a test's
	return netns
}

// letGo unplugs a NIC; resets grant it, since the guest, which may be in its firmware, does not.
func (g *guest) letGo(nic vm.NIC) {
	g.t.Helper()
	done := make(chan error, 1)
	go func() { done <- g.h.UnplugNIC(testContext(g.t), g.id, nic) }()
	again := time.NewTicker(500 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case err := <-done:
			g.must(err)
			return
		case <-again.C:
			g.must(g.h.Reset(testContext(g.t), g.id))
		}
	}
}

// strand leaves QEMU with what libvirtd had given it of a NIC when it died.
func (g *guest) strand(nic vm.NIC, device bool) {
	g.t.Helper()
	alias := domainxml.NICAlias(nic)
	g.withMonitor(func(dom *virt.Domain) {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		g.must(err)
		tap := os.NewFile(uintptr(fd), "tap")
		defer tap.Close() //nolint:errcheck // QEMU has its own
		request, err := unix.NewIfreq(nic.Tap)
		g.must(err)
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		g.must(unix.IoctlIfreq(fd, unix.TUNSETIFF, request))
		g.monitor(dom, tap, "getfd", map[string]any{"fdname": alias})
		g.monitor(dom, nil, "netdev_add", map[string]any{"type": "tap", "id": "host" + alias, "fd": alias})
		if device {
			g.monitor(dom, nil, "device_add", map[string]any{
				"driver": "virtio-net-pci", "netdev": "host" + alias, "id": alias, "mac": nic.MAC, "bus": g.freePort(dom), "addr": "0x0",
			})
		}
	})
}

func (g *guest) withMonitor(do func(dom *virt.Domain)) {
	g.t.Helper()
	conn, err := virt.NewConnect(rig.uri)
	g.must(err)
	defer conn.Close() //nolint:errcheck // a test's
	dom, err := conn.LookupDomainByUUIDString(vm.UUIDFromID(g.id))
	g.must(err)
	defer free(dom)
	do(dom)
}

func (g *guest) monitor(dom *virt.Domain, file *os.File, command string, arguments map[string]any) {
	g.t.Helper()
	request, err := json.Marshal(map[string]any{"execute": command, "arguments": arguments})
	g.must(err)
	var files []os.File
	if file != nil {
		files = append(files, *file)
	}
	answer, _, err := dom.QemuMonitorCommandWithFiles(string(request), files, virt.DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT)
	g.must(err)
	var did struct {
		Error refusal `json:"error"`
	}
	g.must(json.Unmarshal([]byte(answer), &did))
	if did.Error.Class != "" {
		g.t.Fatalf("%s: %+v", command, did.Error)
	}
}

// freePort is the PCIe root port with the highest number, on which nothing is.
func (g *guest) freePort(dom *virt.Domain) string {
	g.t.Helper()
	d, err := devicesOf(dom, 0)
	g.must(err)
	var last uint
	for _, c := range d.Controllers {
		if c.Type == "pci" && c.Model == "pcie-root-port" && c.Index != nil {
			last = max(last, *c.Index)
		}
	}
	return fmt.Sprintf("pci.%d", last)
}
