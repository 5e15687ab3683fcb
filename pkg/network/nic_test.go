// SPDX-License-Identifier: Apache-2.0

package network

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/vmlet/vmlet/pkg/vm"
)

const nicConfig = `{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"bridge"CAPS}]}`

func nicConf(t *testing.T, caps string, spec vm.NICSpec) (args map[string]string, capabilities map[string]any) {
	t.Helper()
	list, err := parseConfig([]byte(strings.Replace(nicConfig, "CAPS", caps, 1)))
	if err != nil {
		t.Fatal(err)
	}
	pod := vm.NetworkRequest{
		SandboxID: testID, Name: "web", Namespace: "shop", UID: "u",
		PortMappings: []vm.PortMapping{{HostPort: 80, ContainerPort: 80}}, DNS: vm.DNSConfig{Servers: []string{"10.0.0.10"}},
	}
	rt := runtimeConf(attachment{Request: pod, NIC: &vm.NICRequest{Sandbox: pod, Spec: spec}}, list, "/netns")
	if rt.IfName != spec.Name || rt.ContainerID != testID {
		t.Errorf("interface %s of %s", rt.IfName, rt.ContainerID)
	}
	args = map[string]string{}
	for _, a := range rt.Args {
		args[a[0]] = a[1]
	}
	return args, rt.CapabilityArgs
}

func TestWhatPluginsAreAskedFor(t *testing.T) {
	spec := vm.NICSpec{
		Name: "eth1", MAC: "02:00:00:00:00:01", IPs: []string{"10.0.0.7"}, PortID: "p", Subnet: "s", VPC: "v", Tag: "t", Args: map[string]string{"MORE": "x"},
	}
	pod := map[string]string{
		"IgnoreUnknown": "1", "K8S_POD_NAMESPACE": "shop", "K8S_POD_NAME": "web", "K8S_POD_INFRA_CONTAINER_ID": testID, "K8S_POD_UID": "u",
		"PORT_ID": "p", "SUBNET": "s", "VPC": "v", "TAG": "t", "MORE": "x",
	}
	args, capabilities := nicConf(t, `,"capabilities":{"mac":true,"ips":true,"portMappings":true,"dns":true}`, spec)
	if diff := cmp.Diff(pod, args); diff != "" {
		t.Errorf("with capabilities (-want +got):\n%s", diff)
	}
	// Host ports and resolver are the pod's first interface's.
	if diff := cmp.Diff(map[string]any{"mac": spec.MAC, "ips": spec.IPs}, capabilities); diff != "" {
		t.Errorf("capabilities (-want +got):\n%s", diff)
	}
	pod["MAC"], pod["IP"] = spec.MAC, spec.IPs[0]
	args, capabilities = nicConf(t, "", spec)
	if diff := cmp.Diff(pod, args); diff != "" || len(capabilities) > 0 {
		t.Errorf("without capabilities %v (-want +got):\n%s", capabilities, diff)
	}
}

func TestWhatCannotBeAsked(t *testing.T) {
	for name, spec := range map[string]vm.NICSpec{
		"no name": {}, "the first": {Name: "eth0"}, "lo": {Name: "lo"}, "a tap": {Name: "vml0"}, "a path": {Name: "../x"}, "a dot": {Name: "a.b"},
		"a long name": {Name: "abcdefghijklmnop"}, "a digit first": {Name: "1a"},
		"a short MAC": {Name: "a", MAC: "02:00"}, "a group's MAC": {Name: "a", MAC: "01:00:5e:00:00:01"}, "no MAC at all": {Name: "a", MAC: "00:00:00:00:00:00"},
		"no address": {Name: "a", IPs: []string{"ten"}}, "anybody's address": {Name: "a", IPs: []string{"0.0.0.0"}}, "a zone": {Name: "a", IPs: []string{"fe80::1%eth0"}},
		"a semicolon": {Name: "a", VPC: "x;K8S_POD_NAME=y"}, "an equals sign": {Name: "a", Tag: "x=y"},
		"a key of ours": {Name: "a", Args: map[string]string{"K8S_POD_NAME": "x"}}, "a field's key": {Name: "a", Args: map[string]string{"MAC": "x"}},
		"a value with a line": {Name: "a", Args: map[string]string{"K": "x\ny"}},
	} {
		if err := checkNIC(vm.NICRequest{Sandbox: vm.NetworkRequest{SandboxID: testID}, Spec: spec, Number: 1}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	list, err := parseConfig([]byte(strings.Replace(nicConfig, "CAPS", "", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if err := canAsk(vm.NICSpec{IPs: []string{"10.0.0.1", "10.0.0.2"}}, list); !errdefs.IsInvalidArgument(err) {
		t.Errorf("two addresses in CNI_ARGS: %v", err)
	}
}

func TestOtherAddressesThanAskedAreRefused(t *testing.T) {
	nic := vm.NIC{MAC: "02:00:00:00:00:01", IPs: []vm.NICAddress{{Prefix: netip.MustParsePrefix("10.0.0.7/24")}, {Prefix: netip.MustParsePrefix("fd00::7/64")}}}
	for _, spec := range []vm.NICSpec{{}, {MAC: "02:00:00:00:00:01", IPs: []string{"fd00::7", "10.0.0.7/16"}}} {
		if err := asAsked(spec, nic, "net"); err != nil {
			t.Errorf("%+v: %v", spec, err)
		}
	}
	for _, spec := range []vm.NICSpec{{MAC: "02:00:00:00:00:02"}, {IPs: []string{"10.0.0.8"}}, {IPs: []string{"10.0.0.7", "fd00::8"}}} {
		if err := asAsked(spec, nic, "net"); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("%+v: %v", spec, err)
		}
	}
}

func TestConfigurationsByNameAndInline(t *testing.T) {
	dir := t.TempDir()
	for file, text := range map[string]string{
		"10-a.conflist": `{"cniVersion":"1.0.0","name":"one","plugins":[{"type":"bridge"}]}`,
		"20-b.conf":     `{"cniVersion":"1.0.0","name":"two","type":"ptp"}`, "05-bad.conflist": `{`,
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n := &Network{conf: Config{ConfDir: dir}}
	for name, c := range map[string]struct {
		network, config string
		want, plugin    string
		class           error
	}{
		"the default": {want: "one", plugin: "bridge"}, "by name": {network: "two", want: "two", plugin: "ptp"}, "unknown": {network: "six", class: errdefs.ErrNotFound},
		"a list":   {config: `{"cniVersion":"1.0.0","name":"mine","plugins":[{"type":"macvlan"}]}`, want: "mine", plugin: "macvlan"},
		"a single": {config: `{"cniVersion":"1.0.0","name":"mine","type":"macvlan"}`, want: "mine", plugin: "macvlan"},
		"no JSON":  {config: `mine`, class: errdefs.ErrInvalidArgument}, "no plugins": {config: `{"name":"mine","plugins":[]}`, class: errdefs.ErrInvalidArgument},
		"no name": {config: `{"cniVersion":"1.0.0","plugins":[{"type":"x"}]}`, class: errdefs.ErrInvalidArgument}, "of the future": {config: `{"cniVersion":"9.0.0","name":"m","plugins":[{"type":"x"}]}`, class: errdefs.ErrInvalidArgument},
	} {
		list, err := n.configOf(vm.NICRequest{Spec: vm.NICSpec{Network: c.network}, Config: []byte(c.config)})
		if c.class != nil {
			if !errors.Is(err, c.class) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || list.Name != c.want || list.Plugins[0].Network.Type != c.plugin {
			t.Errorf("%s: %+v, %v", name, list, err)
		}
	}
	if _, err := n.configOf(vm.NICRequest{Spec: vm.NICSpec{Network: "six"}}); err == nil || !strings.Contains(err.Error(), "one, two") {
		t.Errorf("the error does not say which there are: %v", err)
	}
}

// TestAPodsOwnAddressesAreAskedFor as an attached NIC's are; what cannot be said of them is left out, and the network gives.
func TestAPodsOwnAddressesAreAskedFor(t *testing.T) {
	req := vm.NetworkRequest{SandboxID: testID, Name: "web", Namespace: "shop", UID: "u", MAC: "02:00:00:00:00:01", IPs: []string{"10.0.0.7/24", "fd00::7/64"}}
	for caps, want := range map[string]struct {
		args         [][2]string
		capabilities map[string]any
	}{
		"": {[][2]string{{"MAC", req.MAC}, {"IP", req.IPs[0]}}, map[string]any{}},
		`,"capabilities":{"mac":true,"ips":true}`: {nil, map[string]any{"mac": req.MAC, "ips": req.IPs}},
	} {
		list, err := parseConfig([]byte(strings.Replace(nicConfig, "CAPS", caps, 1)))
		if err != nil {
			t.Fatal(err)
		}
		rt := runtimeConf(attachment{Request: req}, list, "/netns")
		if diff := cmp.Diff(want.args, rt.Args[5:], cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("CNI_ARGS of %q (-want +got):\n%s", caps, diff)
		}
		if diff := cmp.Diff(want.capabilities, rt.CapabilityArgs); diff != "" {
			t.Errorf("capabilities of %q (-want +got):\n%s", caps, diff)
		}
	}
}

// What the pod's plugins are told those of its other NICs are told too, but for what a NIC says itself.
func TestPluginsOfANICHearThePodsArguments(t *testing.T) {
	list, err := parseConfig([]byte(strings.Replace(nicConfig, "CAPS", "", 1)))
	if err != nil {
		t.Fatal(err)
	}
	pod := vm.NetworkRequest{
		SandboxID: testID, Name: "web", Namespace: "shop", UID: "u",
		Args: map[string]string{"OWNER": "acme", "VPC": "pods", "PLAN": "all", "TAG": "pods"},
	}
	spec := vm.NICSpec{Name: "eth1", VPC: "mine", Args: map[string]string{"PLAN": "one"}}
	for name, tc := range map[string]struct {
		a    attachment
		want string
	}{
		"the pod's": {attachment{Request: pod}, "OWNER=acme PLAN=all TAG=pods VPC=pods"},
		"another":   {attachment{Request: pod, NIC: &vm.NICRequest{Sandbox: pod, Spec: spec}}, "OWNER=acme TAG=pods VPC=mine PLAN=one"},
	} {
		var got []string
		for _, a := range runtimeConf(tc.a, list, "/netns").Args[5:] { // behind who the sandbox is
			got = append(got, a[0]+"="+a[1])
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %v, want %s", name, got, tc.want)
		}
	}
	if len(pod.Args) != 4 {
		t.Error("the request has changed")
	}
}
