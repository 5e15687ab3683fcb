// SPDX-License-Identifier: Apache-2.0

package network

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/libcni"

	"github.com/vmlet/vmlet/pkg/vm"
)

// What CNI's conventions call an address that the runtime asks for: a capability, which reaches plugins that declare it
// (https://www.cni.dev/docs/conventions), and in CNI_ARGS what came before it and bridge, macvlan and host-local still read.
const (
	capabilityMAC = "mac"
	capabilityIPs = "ips"
	argMAC        = "MAC"
	argIP         = "IP"
)

// What plugins that know ports, subnets, VPCs and tags find them by in CNI_ARGS.
const (
	argPort   = "PORT_ID"
	argSubnet = "SUBNET"
	argVPC    = "VPC"
	argTag    = "TAG"
)

// askFor adds to the runtime's words what was asked for a NIC.
func askFor(rt *libcni.RuntimeConf, spec vm.NICSpec, list *libcni.NetworkConfigList) {
	arg := func(key, value string) {
		if value != "" {
			rt.Args = append(rt.Args, [2]string{key, value})
		}
	}
	switch {
	case spec.MAC == "":
	case declares(list, capabilityMAC):
		rt.CapabilityArgs[capabilityMAC] = spec.MAC
	default:
		arg(argMAC, spec.MAC)
	}
	switch {
	case len(spec.IPs) == 0:
	case declares(list, capabilityIPs):
		rt.CapabilityArgs[capabilityIPs] = spec.IPs
	default:
		arg(argIP, spec.IPs[0]) // canAsk has refused more, and a sandbox takes what it gets of them
	}
	arg(argPort, spec.PortID)
	arg(argSubnet, spec.Subnet)
	arg(argVPC, spec.VPC)
	arg(argTag, spec.Tag)
	for _, key := range slices.Sorted(maps.Keys(spec.Args)) {
		arg(key, spec.Args[key])
	}
}

// declares tells whether a plugin of the list takes a capability.
func declares(list *libcni.NetworkConfigList, capability string) bool {
	for _, p := range list.Plugins {
		if p.Network.Capabilities[capability] {
			return true
		}
	}
	return false
}

// canAsk refuses what there is no way to say to this network.
func canAsk(spec vm.NICSpec, list *libcni.NetworkConfigList) error {
	if len(spec.IPs) > 1 && !declares(list, capabilityIPs) {
		return fmt.Errorf("ips: %d are asked for, and CNI network %s has no plugin that declares the capability %q: only one can be said in CNI_ARGS: %w",
			len(spec.IPs), list.Name, capabilityIPs, errdefs.ErrInvalidArgument)
	}
	return nil
}

// reserved are the keys of CNI_ARGS that have a field, or say who the sandbox is.
var reserved = []string{argIgnore, argMAC, argIP, argPort, argSubnet, argVPC, argTag}

// checkAsk refuses what no network can be asked for.
func checkAsk(spec vm.NICSpec) error {
	if spec.MAC != "" {
		mac, err := net.ParseMAC(spec.MAC)
		if err != nil || len(mac) != 6 || mac[0]&1 != 0 || slices.Equal(mac, make(net.HardwareAddr, 6)) {
			return fmt.Errorf("mac: %q is not the address of an Ethernet station, such as 02:00:00:12:34:56: %w", spec.MAC, errdefs.ErrInvalidArgument)
		}
	}
	for i, ip := range spec.IPs {
		addr, err := vm.AddrOf(ip)
		if err != nil || addr.IsUnspecified() || addr.IsMulticast() || addr.IsLoopback() || addr.Zone() != "" {
			return fmt.Errorf("ips[%d]: %q is not an interface's address, such as 10.0.0.7 or 10.0.0.7/24: %w", i, ip, errdefs.ErrInvalidArgument)
		}
	}
	values := map[string]string{"port_id": spec.PortID, "subnet": spec.Subnet, "vpc": spec.VPC, "tag": spec.Tag}
	for key, value := range spec.Args {
		if key == "" || strings.ContainsAny(key, ";=\n") || slices.Contains(reserved, key) || strings.HasPrefix(key, "K8S_POD_") {
			return fmt.Errorf("cni_args: %q cannot be a key: %w", key, errdefs.ErrInvalidArgument)
		}
		values["cni_args["+key+"]"] = value
	}
	for field, value := range values {
		if strings.ContainsAny(value, ";=\n") {
			return fmt.Errorf("%s: %q holds a character that CNI_ARGS cannot carry: %w", field, value, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// asAsked refuses an interface that was not given what was asked for it: who asks for an address relies on it.
func asAsked(spec vm.NICSpec, nic vm.NIC, network string) error {
	if spec.MAC != "" && !strings.EqualFold(spec.MAC, nic.MAC) {
		return fmt.Errorf("CNI network %s gave the MAC %s, not %s as asked; its plugins would need the capability %q, or to read %s in CNI_ARGS: %w",
			network, nic.MAC, spec.MAC, capabilityMAC, argMAC, errdefs.ErrFailedPrecondition)
	}
	for _, ip := range spec.IPs {
		asked, err := vm.AddrOf(ip)
		if err != nil {
			return err // checkAsk has seen it
		}
		if !slices.ContainsFunc(nic.IPs, func(has vm.NICAddress) bool { return has.Prefix.Addr() == asked }) {
			return fmt.Errorf("CNI network %s gave the addresses %v, not %s as asked; its plugins would need the capability %q, or to read %s in CNI_ARGS: %w",
				network, prefixesOf(nic), ip, capabilityIPs, argIP, errdefs.ErrFailedPrecondition)
		}
	}
	return nil
}

func prefixesOf(nic vm.NIC) []string {
	var out []string
	for _, ip := range nic.IPs {
		out = append(out, ip.Prefix.String())
	}
	return out
}

// configOf finds the configuration that a request names or holds.
func (n *Network) configOf(req vm.NICRequest) (*libcni.NetworkConfigList, error) {
	switch {
	case len(req.Config) > 0:
		list, err := parseConfig(req.Config)
		if err != nil {
			return nil, fmt.Errorf("cni_config: %w: %w", err, errdefs.ErrInvalidArgument)
		}
		return list, nil
	case req.Spec.Network != "":
		return namedConfig(n.conf.ConfDir, req.Spec.Network)
	default:
		return chooseConfig(n.conf.ConfDir)
	}
}

// parseConfig reads a configuration that was given as JSON: a list, or a single plugin's. Its plugins are all in it: none
// are loaded from files that it names.
func parseConfig(text []byte) (*libcni.NetworkConfigList, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(text, &keys); err != nil {
		return nil, fmt.Errorf("it is not a JSON object: %w", err)
	}
	if _, is := keys["plugins"]; is {
		keys["loadOnlyInlinedPlugins"] = json.RawMessage("true")
		text, err := json.Marshal(keys)
		if err != nil {
			return nil, err
		}
		list, err := libcni.NetworkConfFromBytes(text)
		if err != nil {
			return nil, err
		}
		return judged(list)
	}
	single, err := libcni.ConfFromBytes(text) //nolint:staticcheck // deprecated as a format, and in use
	if err != nil {
		return nil, err
	}
	list, err := libcni.ConfListFromConf(single) //nolint:staticcheck // the same
	if err != nil {
		return nil, err
	}
	return judged(list)
}

// namedConfig finds the valid configuration in dir that has the network's name, the first by file name. NotFound, with the
// names there are, if none has.
func namedConfig(dir, network string) (*libcni.NetworkConfigList, error) {
	files, err := configFiles(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, file := range files {
		list, err := readConfig(file)
		if err != nil {
			continue
		}
		if list.Name == network {
			return list, nil
		}
		names = append(names, list.Name)
	}
	return nil, fmt.Errorf("no CNI network %q in %s; there are: %s: %w", network, dir, strings.Join(names, ", "), errdefs.ErrNotFound)
}
