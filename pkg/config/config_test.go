// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/config"
)

func TestDefaultIsValidAndComplete(t *testing.T) {
	c := config.Default()
	if c.Listen.Socket != "/run/vmlet/vmlet.sock" || c.Defaults.Memory != 1<<30 || c.Stats.Interval != 10*time.Second || !c.Defaults.RNG {
		t.Errorf("default = %+v", c)
	}
}

func TestFileChangesOnlyWhatItNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte("defaults: {memory: 512MiB}\nimages:\n  aliases: [{pattern: 'a/*', name: 'b/*'}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if c.Defaults.Memory != 512<<20 || c.Defaults.VCPUs != 1 || len(c.Images.Aliases) != 1 || c.Images.Aliases[0].Name != "b/*" {
		t.Errorf("config = %+v", c)
	}
}

func TestStreamsAreServedOffLoopbackWithTLS(t *testing.T) {
	c, err := config.Parse("f", []byte("stream: {address: '192.0.2.1:1', tlsCert: /c, tlsKey: /k}\n"))
	if err != nil || c.Stream.Address != "192.0.2.1:1" || c.Stream.IdleTimeout != 4*time.Hour {
		t.Errorf("config = %+v, %v", c.Stream, err)
	}
}

func TestGatesOfAHandlerTakeThePlaceOfTheNodes(t *testing.T) {
	c, err := config.Parse("f", []byte("gates: {console: closed, snapshots: closed}\nruntimeHandlers: [vm, {name: x, gates: {console: open, hotplug: {cpu: {remove: closed}}}}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if names := c.HandlerNames(); !slices.Equal(names, []string{"vm", "x"}) {
		t.Errorf("handlers = %q", names)
	}
	for i, want := range [][]string{{"console", "snapshots"}, {"hotplug.cpu.remove", "snapshots"}} {
		var closed []string
		gates := c.Handlers[i].Gates.Over(c.Gates)
		for key, gate := range gates.ByKey() {
			if *gate == config.Closed {
				closed = append(closed, key)
			}
		}
		if slices.Sort(closed); !slices.Equal(closed, want) {
			t.Errorf("%s: closed are %q, want %q", c.Handlers[i].Name, closed, want)
		}
	}
	for key, gate := range c.Gates.ByKey() {
		if *gate == "" {
			t.Errorf("the default configuration does not show gates.%s", key)
		}
	}
}

func TestEmptyFileIsTheDefault(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n"} {
		if _, err := config.Parse("f", []byte(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestWrongFilesSayWhereAndWhatWouldBeRight(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"unknown key":            {"root: /a\ncgroupdriver: systemd\n", `f:2:1: cgroupdriver: unknown key; did you mean "cgroupDriver"?`},
		"unknown nested key":     {"cni:\n  confdir: /etc\n", `f:2:3: cni.confdir: unknown key; did you mean "confDir"?`},
		"unknown far from all":   {"zzzzzzzz: 1\n", `f:1:1: zzzzzzzz: unknown key; known here: listen, root`},
		"bad choice":             {"virtualization: xen\n", `f:1:17: virtualization: "xen" is not one of "auto", "kvm", "tcg"`},
		"bad size":               {"defaults:\n  memory: 1GB\n", `f:2:11: defaults.memory: "1GB" is no size; write a whole number with KiB`},
		"bad number":             {"defaults: {vcpus: two}\n", `f:1:19: defaults.vcpus: "two" is not a whole number`},
		"bad bool":               {"defaults: {rng: maybe}\n", `"maybe" is not true or false`},
		"bad duration":           {"stats: {interval: fast}\n", `"fast" is not a duration such as 10s`},
		"list wanted":            {"cni: {binDirs: /opt}\n", `f:1:16: cni.binDirs: wants a list`},
		"keys wanted":            {"log: info\n", `f:1:6: log: wants keys and values: level, format`},
		"relative path":          {"root: var\n", `f:1:7: root: "var" is not an absolute path`},
		"patience without end":   {"defaults: {agentTimeout: 61m}\n", `defaults.agentTimeout: 1h1m0s is not between 0 and 1h`},
		"nothing to see":         {"defaults: {video: none, vnc: true}\n", `f:1:30: defaults.vnc: wants defaults.video to be vga`},
		"unknown video device":   {"defaults: {video: cirrus}\n", `defaults.video: "cirrus" is not one of "none", "vga"`},
		"a relative agent":       {"guestAgent: {binary: vmlet-agent}\n", `guestAgent.binary: "vmlet-agent" is not an absolute path`},
		"streams off loopback":   {"stream: {address: '192.0.2.1:1'}\n", `f:1:19: stream.address: 192.0.2.1 is not a loopback address`},
		"streams everywhere":     {"stream: {address: '0.0.0.0:1'}\n", `0.0.0.0 is no address that a client could be sent to`},
		"streams by name":        {"stream: {address: 'localhost:1'}\n", `"localhost:1" is not IP:PORT`},
		"half of a key pair":     {"stream:\n  address: '192.0.2.1:1'\n  tlsCert: /c\n", `f:3:12: stream.tlsCert: a certificate and its key are needed`},
		"a relative disk folder": {"disks: {allowedPaths: [srv]}\n", `disks.allowedPaths[0]: "srv" is not an absolute path`},
		"our folder for disks":   {"disks: {allowedPaths: [/var/lib]}\n", `"/var/lib" and vmlet's own folder /var/lib/vmlet are one in the other`},
		"all folders for disks":  {"disks: {allowedPaths: [/srv, /]}\n", `disks.allowedPaths[1]: "/" and vmlet's own folder`},
		"a relative key":         {"stream: {tlsCert: /c, tlsKey: k}\n", `stream.tlsKey: "k" is not an absolute path`},
		"idle for no time":       {"stream: {idleTimeout: 0s}\n", `stream.idleTimeout: 0s is less than 1s`},
		"twice":                  {"root: /a\nroot: /b\n", `f:2:1: root: is given twice`},
		"memory below minimum":   {"defaults: {memory: 32MiB}\n", `f:1:20: defaults.memory: 32MiB is less than defaults.minimumMemory, 64MiB`},
		"no YAML":                {"a: [", `f: line 1`},
		"a gate ajar":            {"gates: {hotplug: {nic: {add: ajar}}}\n", `f:1:30: gates.hotplug.nic.add: "ajar" is neither open nor closed`},
		"a handler's gate ajar":  {"runtimeHandlers: [vm, {name: x, gates: {console: no}}]\n", `f:1:50: runtimeHandlers[1].gates.console: "no" is neither open nor closed`},
		"a handler twice":        {"runtimeHandlers: [vm, {name: vm}]\n", `f:1:23: runtimeHandlers[1]: "vm" is listed twice`},
		"a handler without name": {"runtimeHandlers: [{gates: {}}]\n", `runtimeHandlers[0]: wants a name`},
		"no handler at all":      {"runtimeHandlers: [[vm]]\n", `runtimeHandlers[0]: wants keys and values: name, gates`},
		"no call at all":         {"listen: {callsPerClient: 0}\n", `f:1:26: listen.callsPerClient: 0 is not between 64 and 1048576`},
		"two problems, in order": {"root: b\nstate: a\n", "f:1:7: root: \"b\" is not an absolute path\nf:2:8: state"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Parse("f", []byte(tc.text))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error:\n%v\nwant:\n%s", err, tc.want)
			}
			if !errors.Is(err, errdefs.ErrInvalidArgument) {
				t.Errorf("error %v is not InvalidArgument", err)
			}
		})
	}
}

func TestSizesReadBack(t *testing.T) {
	for text, want := range map[string]config.Size{"0": 0, "4096": 4096, "1KiB": 1024, "512Mi": 512 << 20, "2 GiB": 2 << 30, "2TiB": 2 << 40} {
		got, err := config.ParseSize(text)
		if err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
		if again, err := config.ParseSize(got.String()); err != nil || again != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", got.String(), again, err, want)
		}
	}
	for _, text := range []string{"", "GiB", "-1", "1.5GiB", "9999999999TiB", "1GB"} {
		if got, err := config.ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", text, got)
		}
	}
}
