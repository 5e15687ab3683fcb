// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// problem is one bad value.
type problem struct{ key, text string }

// problems judges the values that YAML's types cannot.
func (c Config) problems() []problem {
	var out []problem
	add := func(key, format string, args ...any) { out = append(out, problem{key, fmt.Sprintf(format, args...)}) }

	for key, path := range map[string]string{
		"listen.socket": c.Listen.Socket, "root": c.Root, "state": c.State,
		"libvirt.logDir": c.Libvirt.LogDir, "libvirt.qemuConf": c.Libvirt.QEMUConf, "cni.confDir": c.CNI.ConfDir,
	} {
		if !filepath.IsAbs(path) {
			add(key, "%q is not an absolute path", path)
		}
	}
	// sun_path of a unix socket address holds 108 bytes with its final zero (unix(7)).
	if len(c.Listen.Socket) > 107 {
		add("listen.socket", "a unix socket's path has at most 107 bytes, this one has %d", len(c.Listen.Socket))
	}
	for i, dir := range c.CNI.BinDirs {
		if !filepath.IsAbs(dir) {
			add(fmt.Sprintf("cni.binDirs[%d]", i), "%q is not an absolute path", dir)
		}
	}
	if len(c.CNI.BinDirs) == 0 {
		add("cni.binDirs", "wants at least one folder")
	}
	if c.Libvirt.URI == "" {
		add("libvirt.uri", "wants a libvirt URI such as qemu:///system")
	}
	for key, choice := range map[string]struct {
		value string
		of    []string
	}{
		"virtualization":           {c.Virtualization, []string{"auto", "kvm", "tcg"}},
		"cgroups":                  {c.Cgroups, []string{"auto", "pod", "libvirt"}},
		"cgroupDriver":             {c.CgroupDriver, []string{"cgroupfs", "systemd"}},
		"log.level":                {c.Log.Level, []string{"debug", "info", "warn", "error"}},
		"log.format":               {c.Log.Format, []string{"json", "console"}},
		"defaults.cpu.mode":        {c.Defaults.CPU.Mode, []string{"", "host-passthrough", "host-model", "maximum", "custom"}},
		"defaults.diskBus":         {c.Defaults.DiskBus, []string{"virtio", "scsi"}},
		"defaults.diskErrorPolicy": {c.Defaults.DiskErrorPolicy, []string{"stop", "report", "enospace", "ignore"}},
		"defaults.watchdog.model":  {c.Defaults.Watchdog.Model, []string{"", "itco", "i6300esb"}},
		"defaults.video":           {c.Defaults.Video, []string{"none", "vga"}},
		"defaults.watchdog.action": {c.Defaults.Watchdog.Action, []string{"reset", "poweroff", "pause", "none"}},
	} {
		if !slices.Contains(choice.of, choice.value) {
			add(key, "%q is not one of %s", choice.value, quoted(choice.of))
		}
	}
	out = append(out, c.allowedProblems()...)
	out = append(out, c.gateProblems()...)
	return append(out, c.numberProblems()...)
}

// allowedProblems judges the folders that callers may name files in.
func (c Config) allowedProblems() (out []problem) {
	for list, dirs := range map[string][]string{"disks.allowedPaths": c.Disks.AllowedPaths, "checkpoints.allowedPaths": c.Checkpoints.AllowedPaths} {
		for i, dir := range dirs {
			key := fmt.Sprintf("%s[%d]", list, i)
			if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir {
				out = append(out, problem{key, fmt.Sprintf("%q is not an absolute path without \"..\" and a slash at its end", dir)})
			}
			for _, own := range []string{c.Root, c.State} {
				if within(dir, own) || within(own, dir) {
					out = append(out, problem{key, fmt.Sprintf("%q and vmlet's own folder %s are one in the other", dir, own)})
				}
			}
		}
	}
	return out
}

// What a client may have under way: less would hold up a kubelet, and more is no bound.
const (
	leastPerClient = 64
	mostPerClient  = 1 << 20
)

// numberProblems judges numbers, addresses and what belongs together.
func (c Config) numberProblems() []problem {
	var out []problem
	add := func(key, format string, args ...any) { out = append(out, problem{key, fmt.Sprintf(format, args...)}) }
	if !strings.HasPrefix(c.Defaults.Machine, "q35") && !strings.HasPrefix(c.Defaults.Machine, "pc-q35-") {
		add("defaults.machine", "%q is not q35 or a version of it (pc-q35-...)", c.Defaults.Machine)
	}
	if c.Defaults.CPU.Mode == "custom" && c.Defaults.CPU.Model == "" {
		add("defaults.cpu.mode", "custom wants defaults.cpu.model to name a CPU model")
	}
	for key, number := range map[string]struct{ is, least, most int }{
		"defaults.vcpus":          {c.Defaults.VCPUs, 1, 255},
		"defaults.maxVCPUs":       {c.Defaults.MaxVCPUs, 0, 255},
		"defaults.memoryHeadroom": {c.Defaults.MemoryHeadroom, 1, 16},
	} {
		if number.is < number.least || number.is > number.most {
			add(key, "%d is not between %d and %d", number.is, number.least, number.most)
		}
	}
	if c.Defaults.Memory < c.Defaults.MinimumMemory {
		add("defaults.memory", "%s is less than defaults.minimumMemory, %s", c.Defaults.Memory, c.Defaults.MinimumMemory)
	}
	if c.Defaults.AgentTimeout <= 0 || c.Defaults.AgentTimeout > time.Hour {
		add("defaults.agentTimeout", "%s is not between 0 and 1h", c.Defaults.AgentTimeout)
	}
	if c.Defaults.VNC && c.Defaults.Video == "none" {
		add("defaults.vnc", "wants defaults.video to be vga: without a video device there is nothing to see")
	}
	if c.GuestAgent.Binary != "" && !filepath.IsAbs(c.GuestAgent.Binary) {
		add("guestAgent.binary", "%q is not an absolute path", c.GuestAgent.Binary)
	}
	if c.CNI.Timeout < time.Second {
		add("cni.timeout", "%s is less than 1s", c.CNI.Timeout)
	}
	if c.Stats.Interval < time.Second {
		add("stats.interval", "%s is less than 1s", c.Stats.Interval)
	}
	if c.Console.SpoolLimit < 1<<20 {
		add("console.spoolLimit", "%s is less than 1MiB", c.Console.SpoolLimit)
	}
	if c.Images.MaxVirtualSize < 1<<20 {
		add("images.maxVirtualSize", "%s is less than 1MiB", c.Images.MaxVirtualSize)
	}
	out = append(out, c.Listen.problems()...)
	out = append(out, c.Stream.problems()...)
	if c.Metrics.Address != "" {
		if _, _, err := net.SplitHostPort(c.Metrics.Address); err != nil {
			add("metrics.address", "%q is not HOST:PORT", c.Metrics.Address)
		}
	}
	return append(out, c.aliasProblems()...)
}

func (c Config) aliasProblems() (out []problem) {
	for i, a := range c.Images.Aliases {
		key := fmt.Sprintf("images.aliases[%d]", i)
		switch {
		case a.Pattern == "" || a.Name == "":
			out = append(out, problem{key, "wants a pattern and a name"})
		case strings.Count(a.Pattern, "*") > 1 || strings.Count(a.Name, "*") > strings.Count(a.Pattern, "*"):
			out = append(out, problem{key, "a pattern has at most one *, and the name may use it once"})
		}
	}
	return out
}

// problems judges how much a client may have under way.
func (l Listen) problems() []problem {
	var out []problem
	for key, n := range map[string]int{"listen.callsPerClient": l.CallsPerClient, "listen.streamsPerClient": l.StreamsPerClient} {
		if n < leastPerClient || n > mostPerClient {
			out = append(out, problem{key, fmt.Sprintf("%d is not between %d and %d", n, leastPerClient, mostPerClient)})
		}
	}
	return out
}

// problems judges where streams are served, and how.
func (s Stream) problems() []problem {
	var out []problem
	add := func(key, format string, args ...any) { out = append(out, problem{key, fmt.Sprintf(format, args...)}) }
	address, err := netip.ParseAddrPort(s.Address)
	switch {
	case err != nil:
		add("stream.address", "%q is not IP:PORT", s.Address)
	case address.Addr().IsUnspecified():
		add("stream.address", "%s is no address that a client could be sent to; give one of the host's", address.Addr())
	case !address.Addr().IsLoopback() && s.TLSCert == "":
		add("stream.address", "%s is not a loopback address; streams carry shells: give stream.tlsCert and stream.tlsKey", address.Addr())
	}
	for key, path := range map[string]string{"stream.tlsCert": s.TLSCert, "stream.tlsKey": s.TLSKey} {
		if path != "" && !filepath.IsAbs(path) {
			add(key, "%q is not an absolute path", path)
		}
	}
	if (s.TLSCert == "") != (s.TLSKey == "") {
		add("stream.tlsCert", "a certificate and its key are needed, not one of them")
	}
	if s.IdleTimeout < time.Second {
		add("stream.idleTimeout", "%s is less than 1s", s.IdleTimeout)
	}
	return out
}

func quoted(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = fmt.Sprintf("%q", w)
	}
	return strings.Join(out, ", ")
}

// within tells whether path is dir or below it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}
