// SPDX-License-Identifier: Apache-2.0

//go:build integration

package network

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/moby/sys/mountinfo"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/paths"
	"github.com/vmlet/vmlet/pkg/vm"
)

// The tests run in a "host" of their own: this process starts itself again in new network
// and mount namespaces, so that bridges, rules, leases and mounts are nobody else's.
const insideEnv = "VMLET_TEST_INSIDE"

func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) == "" {
		os.Exit(runInside())
	}
	if state := os.Getenv(crashEnv); state != "" {
		crash(state)
	}
	if err := prepareInside(); err != nil {
		fmt.Fprintln(os.Stderr, "prepare the test's host:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func runInside() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return max(exit.ExitCode(), 1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "start the tests in namespaces of their own (they need root):", err)
		return 1
	}
	return 0
}

func prepareInside() error {
	// Slave, not private: what others unmount meanwhile must not live on in here.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return err
	}
	if err := os.MkdirAll("/var/lib/cni", 0o755); err != nil {
		return err
	}
	for _, dir := range []string{"/run", "/var/lib/cni"} {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return err
	}
	// Or else the first seconds of a bridge's IPv6 address pass in waiting for duplicates.
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0); err != nil {
		return err
	}
	return setUp("lo")
}

func setUp(name string) error {
	dev, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(dev)
}

// host is a Network with real plugins around it, on a bridge and subnets of its own.
type host struct {
	net      *Network
	conf     Config
	bin      string
	real     string // where the plugins are that scripts call
	leases   string
	bridge   string
	gateway4 string
	gateway6 string
	number   int
	taps     map[string][]*tap
}

var hosts atomic.Int32

// newHost opens a Network for which the bridge plugin, with host-local and portmap, is
// configured, and when the test ends looks whether all is gone.
func newHost(tb testing.TB, configure ...func(*Config)) *host {
	tb.Helper()
	number := int(hosts.Add(1))
	dir, state := tb.TempDir(), fmt.Sprintf("/run/vmlet-%d", number)
	h := &host{
		bin: filepath.Join(dir, "bin"), real: pluginFolder(tb), leases: filepath.Join(dir, "leases"),
		bridge: fmt.Sprintf("br%d", number), number: number, taps: map[string][]*tap{},
		gateway4: fmt.Sprintf("10.88.%d.1", number), gateway6: fmt.Sprintf("fd00:88:%x::1", number),
	}
	h.conf = Config{
		ConfDir: filepath.Join(dir, "conf"), BinDirs: []string{h.bin},
		Paths: paths.Node{Root: filepath.Join(dir, "root"), State: state},
	}
	for _, c := range configure {
		c(&h.conf)
	}
	for _, sub := range []string{h.bin, h.conf.ConfDir} {
		if err := os.MkdirAll(sub, 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	for _, plugin := range []string{"bridge", "host-local", "portmap", "ptp"} {
		if err := os.Symlink(filepath.Join(h.real, plugin), filepath.Join(h.bin, plugin)); err != nil {
			tb.Fatal(err)
		}
	}
	h.configure(tb, "bridge", "")
	h.open(tb)
	tb.Cleanup(func() { h.mustBeClean(tb) })
	return h
}

// open makes a new Network on the same folders, as a new process would.
func (h *host) open(tb testing.TB) {
	tb.Helper()
	var err error
	if h.net, err = New(h.conf); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(h.net.Close)
}

func pluginFolder(tb testing.TB) string {
	tb.Helper()
	dir := os.Getenv("VMLET_TEST_CNI_BIN")
	if dir == "" {
		dir = "../../bin/cni"
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "bridge")); err != nil {
		tb.Fatalf("CNI plugins: %v (make tools, or set VMLET_TEST_CNI_BIN)", err)
	}
	return dir
}

// configure writes the CNI configuration: a main plugin, real or one that a test wrote, and
// after it others, as JSON, of which portmap is the last.
func (h *host) configure(tb testing.TB, main, others string) {
	tb.Helper()
	text := fmt.Sprintf(`{"cniVersion":"1.1.0","name":"pods%d","plugins":[
		{"type":%q,"bridge":%q,"isGateway":true,"mtu":1400,"ipam":{"type":"host-local","dataDir":%q,
		"ranges":[[{"subnet":"10.88.%d.0/24"}],[{"subnet":"fd00:88:%x::/64"}]],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}},
		%s{"type":"portmap","capabilities":{"portMappings":true}}]}`, h.number, main, h.bridge, h.leases, h.number, h.number, others)
	if err := os.WriteFile(filepath.Join(h.conf.ConfDir, "10-pods.conflist"), []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
}

// plugin writes a plugin of a shell script; REAL is the folder of the real ones.
func (h *host) plugin(tb testing.TB, name, script string) {
	tb.Helper()
	writePlugin(tb, h.bin, name, strings.ReplaceAll(script, "REAL", h.real))
}

func request() vm.NetworkRequest {
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	return vm.NetworkRequest{SandboxID: hex.EncodeToString(id), Name: "web", Namespace: "shop", UID: "u-1"}
}

func (h *host) mustSetup(tb testing.TB) vm.Network {
	tb.Helper()
	n, err := h.net.Setup(tb.Context(), request())
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

func (h *host) mustTeardown(tb testing.TB, req vm.NetworkRequest) {
	tb.Helper()
	if err := h.net.Teardown(tb.Context(), req); err != nil {
		tb.Fatal(err)
	}
}

// inside runs do in a sandbox's namespace.
func inside(tb testing.TB, n vm.Network, do func() error) {
	tb.Helper()
	if err := ns.WithNetNSPath(n.NetNS, func(ns.NetNS) error { return do() }); err != nil {
		tb.Fatal(err)
	}
}

// reboot is what a reboot of the host does to namespaces and to <state>.
func (h *host) reboot(tb testing.TB) {
	tb.Helper()
	folder := h.conf.Paths.NetNS()
	ids, err := sandboxesIn(folder)
	if err != nil {
		tb.Fatal(err)
	}
	for _, id := range ids {
		if err := removeNetNS(filepath.Join(folder, id)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := unix.Unmount(folder, unix.MNT_DETACH); err != nil {
		tb.Fatal(err)
	}
	if err := os.RemoveAll(h.conf.Paths.State); err != nil {
		tb.Fatal(err)
	}
	eventually(tb, "the bridge loses its ports", func() string { return strings.Join(h.ports(tb), " ") })
	h.open(tb)
}

// held is what is left of sandboxes in files.
func (h *host) held(tb testing.TB) []string {
	tb.Helper()
	var found []string
	folders := []string{h.conf.Paths.NetNS(), h.conf.Paths.CNIAttachments(), filepath.Join(h.conf.Paths.CNICache(), "results")}
	for _, dir := range folders {
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			tb.Fatal(err)
		}
		found = append(found, files...)
	}
	return append(found, h.leased(tb)...)
}

// leased are the addresses that host-local has given out.
func (h *host) leased(tb testing.TB) []string {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(h.leases, "*", "*"))
	if err != nil {
		tb.Fatal(err)
	}
	return slices.DeleteFunc(files, func(f string) bool {
		return filepath.Base(f) == "lock" || strings.HasPrefix(filepath.Base(f), "last_reserved_ip")
	})
}

// ports are the interfaces of the host other than lo and the bridge.
func (h *host) ports(tb testing.TB) []string {
	tb.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		tb.Fatal(err)
	}
	var names []string
	for _, l := range links {
		if name := l.Attrs().Name; name != "lo" && name != h.bridge {
			names = append(names, name)
		}
	}
	return names
}

// eventually waits until left is empty: the kernel takes namespaces apart in its own time.
func eventually(tb testing.TB, what string, left func() string) {
	tb.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		rest := left()
		if rest == "" {
			return
		}
		if time.Now().After(deadline) {
			tb.Errorf("%s: still %s", what, rest)
			return
		}
	}
}

func (h *host) mustBeClean(tb testing.TB) {
	tb.Helper()
	for _, taps := range h.taps {
		for _, tap := range taps {
			closing(tb, tap)
		}
	}
	if held := h.held(tb); len(held) > 0 {
		tb.Errorf("left behind: %v", held)
	}
	eventually(tb, "interfaces", func() string { return strings.Join(h.ports(tb), " ") })
	for _, tables := range []string{"iptables-save", "ip6tables-save"} {
		rules, err := exec.Command(tables).Output()
		if err != nil {
			tb.Errorf("%s: %v", tables, err)
		}
		if bytes.Contains(rules, []byte("CNI-DN-")) {
			tb.Errorf("%s: rules of port mappings are left:\n%s", tables, rules)
		}
	}
	mustBeHome(tb)
	if dev, err := netlink.LinkByName(h.bridge); err == nil {
		if err := netlink.LinkDel(dev); err != nil {
			tb.Error(err)
		}
	}
	if err := unix.Unmount(h.conf.Paths.NetNS(), unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		tb.Error(err) // but there may have been no sandbox at all
	}
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(h.conf.Paths.State))
	if err != nil {
		tb.Error(err)
	}
	for _, m := range mounts {
		tb.Errorf("mount is left: %s", m.Mountpoint)
	}
}

// mustBeHome looks whether a thread of this process is in another network namespace.
func mustBeHome(tb testing.TB) {
	tb.Helper()
	threads, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil || len(threads) == 0 {
		tb.Fatalf("threads: %v, %v", threads, err)
	}
	spaces := map[string]int{}
	for _, thread := range threads {
		if space, err := os.Readlink(thread); err == nil { // else the thread has just ended
			spaces[space]++
		}
	}
	if len(spaces) != 1 {
		tb.Errorf("threads by network namespace: %v", spaces)
	}
}
