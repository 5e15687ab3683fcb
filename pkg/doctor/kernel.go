// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"os"
	"runtime"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/vm"
)

func (d *Doctor) kernelTun(context.Context) vm.Check {
	f, err := os.OpenFile(d.path("/dev/net/tun"), os.O_RDWR, 0)
	if err != nil {
		return fail(fmt.Sprintf("taps cannot be made: %v", err), "modprobe tun; in a container, give it /dev/net/tun")
	}
	if err := f.Close(); err != nil {
		return warn(err.Error(), "look at /dev/net/tun and the kernel's log")
	}
	return ok("taps can be made (/dev/net/tun)")
}

// kernelNetwork tries, in a network namespace that ends with this check, what every
// sandbox needs: a veth pair and a rule at a device's ingress.
func (*Doctor) kernelNetwork(context.Context) vm.Check {
	result := make(chan error)
	go func() {
		// Never unlocked: the thread is in another namespace and must end with us.
		runtime.LockOSThread()
		result <- probeNetwork()
	}()
	if err := <-result; err != nil {
		return fail(err.Error(), "run as root with CAP_NET_ADMIN and CAP_SYS_ADMIN on a kernel with CONFIG_VETH, CONFIG_NF_TABLES and CONFIG_NF_TABLES_NETDEV (modprobe veth nf_tables nft_fwd_netdev)")
	}
	return ok("the kernel has veth and nftables at ingress")
}

func probeNetwork() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("network namespaces cannot be made: %w", err)
	}
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "probe0"}, PeerName: "probe1"}
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("veth pairs cannot be made: %w", err)
	}
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables does not answer: %w", err)
	}
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyNetdev, Name: "probe"})
	conn.AddChain(&nftables.Chain{
		Table: table, Name: "probe", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookIngress, Priority: nftables.ChainPriorityFilter, Device: "probe0",
	})
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables has no chain at a device's ingress: %w", err)
	}
	return nil
}

func (d *Doctor) cni(ctx context.Context) vm.Check {
	if err := d.Network.Ready(ctx); err != nil {
		return fail(err.Error(), fmt.Sprintf("put a CNI configuration into %s and its plugins into one of %v", d.Config.CNI.ConfDir, d.Config.CNI.BinDirs))
	}
	return ok("CNI is configured in %s", d.Config.CNI.ConfDir)
}
