// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/vishvananda/netlink"

	"github.com/vmlet/vmlet/pkg/paths"
	"github.com/vmlet/vmlet/pkg/store"
)

// checkLeaks proves that a node whose pods are all removed has left nothing behind.
func (n *Node) checkLeaks() {
	n.t.Helper()
	// The kernel takes interfaces and processes down a moment after who held them.
	deadline := time.Now().Add(5 * time.Second)
	for {
		left := n.leaks()
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			n.t.Errorf("left behind:\n  %s", strings.Join(left, "\n  "))
			n.t.Log(ofLibvirt())
			toldLeft(left)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (n *Node) leaks() []string {
	left := leftBy(n.leftRecords, n.leftDomains, n.leftFiles, n.leftLinks, n.leftMounts, n.leftCgroups, n.leftProcesses, n.leftRules)
	return slices.DeleteFunc(left, func(what string) bool { return told[what] })
}

// told is what a test was told of: it turns that one red, and not each that comes after it.
var told = map[string]bool{}

func toldLeft(left []string) {
	for _, what := range left {
		told[what] = true
	}
}

func leftBy(finds ...func() ([]string, error)) (left []string) {
	for _, find := range finds {
		found, err := find()
		if err != nil {
			found = append(found, "cannot look: "+err.Error())
		}
		left = append(left, found...)
	}
	return left
}

func (n *Node) node() paths.Node {
	return paths.Node{Root: filepath.Join(n.LibDir, "node"), State: filepath.Join(n.RunDir, "state")}
}

func (n *Node) leftRecords() (left []string, err error) {
	if _, err := os.Stat(n.node().DB()); err != nil {
		return nil, nil //nolint:nilerr // a node that never started has no records
	}
	st, err := store.Open(context.Background(), n.node(), store.Options{})
	if err != nil {
		return nil, err
	}
	for _, sb := range st.Sandboxes().List() {
		left = append(left, fmt.Sprintf("record of sandbox %s, %s", sb.ID, sb.Status.State))
	}
	for _, c := range st.Containers().List() {
		left = append(left, fmt.Sprintf("record of container %s, %s", c.ID, c.Status.State))
	}
	for _, d := range st.Disks().List() {
		left = append(left, "record of disk "+d.Key.Name())
	}
	return left, st.Close()
}

// leftDomains finds domains, and what libvirt keeps beside them.
func (n *Node) leftDomains() (left []string, err error) {
	out, err := virsh("list", "--all", "--name")
	if err != nil {
		return nil, err
	}
	for name := range strings.FieldsSeq(out) {
		if strings.HasPrefix(name, "vmlet-") && n.owns(name) {
			left = append(left, "domain "+name)
		}
	}
	for _, pattern := range []string{"log/qemu/vmlet-*", "lib/qemu/nvram/vmlet-*", "lib/qemu/save/vmlet-*", "lib/qemu/snapshot/vmlet-*", "lib/qemu/domain-*", "lib/qemu/channel/target/domain-*"} {
		found, err := filepath.Glob(filepath.Join(LibvirtdDir(), pattern))
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			if !hasForeign(f) {
				left = append(left, "libvirt's "+f)
			}
		}
	}
	return left, nil
}

// owns reports whether a domain's disks are this node's: others may run beside it.
func (n *Node) owns(domain string) bool {
	out, err := virsh("dumpxml", domain)
	return err != nil || strings.Contains(out, n.LibDir)
}

// hasForeign tells the files of domains that tests put there as not ours.
func hasForeign(path string) bool { return strings.Contains(path, "foreign") }

func (n *Node) leftFiles() (left []string, err error) {
	for what, dir := range map[string]string{
		"sandbox folder": n.node().Sandboxes(), "disk folder": n.node().Disks(), "netns": n.node().NetNS(), "CNI cache": n.node().CNICache(), "lease": n.Leases,
		"agent's socket": filepath.Dir(n.node().AgentSocket("any")), "share": n.node().Shares(),
	} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || path == dir {
				return nil //nolint:nilerr // what is not there is not left
			}
			base := filepath.Base(path)
			if base == "lock" || strings.HasPrefix(base, "last_reserved_ip") || d.IsDir() && what != "sandbox folder" && what != "disk folder" && what != "share" {
				return nil
			}
			left = append(left, what+" "+path)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return left, nil
}

// leftLinks finds taps and veths; the bridge belongs to the CNI plugin and stays.
func (n *Node) leftLinks() (left []string, err error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	bridge := -1
	for _, l := range links {
		if l.Attrs().Name == n.Bridge() {
			bridge = l.Attrs().Index
		}
	}
	for _, l := range links {
		if a := l.Attrs(); bridge > 0 && a.MasterIndex == bridge || strings.HasPrefix(a.Name, "vml") {
			left = append(left, fmt.Sprintf("link %s (%s)", a.Name, l.Type()))
		}
	}
	return left, nil
}

func (n *Node) leftMounts() (left []string, err error) {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(n.RunDir))
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		// Shared with itself, for as long as the host is up.
		if m.Mountpoint != n.node().NetNS() && m.Mountpoint != n.node().Shares() {
			left = append(left, "mount "+m.Mountpoint)
		}
	}
	return left, nil
}

var sandboxGroup = regexp.MustCompile(`^vmlet-([0-9a-f]{32})(\.scope)?$`)

func (n *Node) leftCgroups() (left []string, err error) {
	err = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // groups of others come and go
		}
		if m := sandboxGroup.FindStringSubmatch(d.Name()); m != nil && d.IsDir() && n.knew(m[1]) {
			left = append(left, "cgroup "+path)
		}
		return nil
	})
	return left, err
}

// knew reports whether the daemon's log names a sandbox.
func (n *Node) knew(id string) bool {
	b, err := os.ReadFile(n.DaemonLog())
	return err != nil || strings.Contains(string(b), id)
}

// leftProcesses finds QEMUs, virtiofsds and helpers that have a file of this node's on their command line.
func (n *Node) leftProcesses() (left []string, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		cmdline, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil || !strings.Contains(string(cmdline), n.LibDir+"/") && !strings.Contains(string(cmdline), n.node().State+"/") {
			continue
		}
		left = append(left, fmt.Sprintf("process %s: %.120q", e.Name(), cmdline))
	}
	return left, nil
}

// leftRules finds rules that the portmap plugin made for a pod.
func (*Node) leftRules() (left []string, err error) {
	for _, program := range []string{"iptables-save", "ip6tables-save"} {
		out, err := exec.Command(program).Output() //nolint:noctx // fixed words
		if err != nil {
			return nil, fmt.Errorf("%s: %w", program, err)
		}
		for line := range strings.Lines(string(out)) {
			if strings.HasPrefix(line, "-A CNI-DN-") || strings.HasPrefix(line, ":CNI-DN-") {
				left = append(left, program+": "+strings.TrimSpace(line))
			}
		}
	}
	return left, nil
}

// removeBridge removes the node's bridge, which the CNI plugin leaves by design.
func (n *Node) removeBridge() {
	if l, err := netlink.LinkByName(n.Bridge()); err == nil {
		if err := netlink.LinkDel(l); err != nil {
			n.t.Errorf("remove bridge %s: %v", n.Bridge(), err)
		}
	}
}
