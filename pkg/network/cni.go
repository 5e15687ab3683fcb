// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/vmlet/vmlet/pkg/vm"
)

// runtimeConf says to plugins who the sandbox is, and what was asked for its interface.
func runtimeConf(a attachment, list *libcni.NetworkConfigList, netns string) *libcni.RuntimeConf {
	if a.NIC == nil {
		rt := sandboxConf(a.Request, netns)
		askFor(rt, vm.NICSpec{MAC: a.Request.MAC, IPs: a.Request.IPs}, list)
		return rt
	}
	// Host ports and resolver are the pod's, and its first interface's.
	rt := sandboxConf(vm.NetworkRequest{
		SandboxID: a.Request.SandboxID, Name: a.Request.Name, Namespace: a.Request.Namespace, UID: a.Request.UID,
		Args: argsBeside(a.Request.Args, a.NIC.Spec),
	}, netns)
	rt.IfName = a.ifName()
	askFor(rt, a.NIC.Wanted(), list)
	return rt
}

// What says in CNI_ARGS who the sandbox is, as kubelet's runtimes do.
const (
	argIgnore    = "IgnoreUnknown"
	argNamespace = "K8S_POD_NAMESPACE"
	argName      = "K8S_POD_NAME"
	argSandbox   = "K8S_POD_INFRA_CONTAINER_ID"
	argUID       = "K8S_POD_UID"
)

// sandboxConf says who the sandbox is. CNI_ARGS are those of kubelet's runtimes.
// A capability reaches the plugins that declare it and no other: a host port that no plugin
// serves is not an error, since some networks (Cilium's) read it from the pod themselves.
func sandboxConf(req vm.NetworkRequest, netns string) *libcni.RuntimeConf {
	rt := &libcni.RuntimeConf{
		ContainerID: req.SandboxID,
		NetNS:       netns,
		IfName:      primaryNIC,
		Args: [][2]string{
			{argIgnore, "1"},
			{argNamespace, req.Namespace},
			{argName, req.Name},
			{argSandbox, req.SandboxID},
			{argUID, req.UID},
		},
		CapabilityArgs: map[string]any{},
	}
	for _, key := range slices.Sorted(maps.Keys(req.Args)) {
		rt.Args = append(rt.Args, [2]string{key, req.Args[key]})
	}
	if ports := hostPorts(req.PortMappings); len(ports) > 0 {
		rt.CapabilityArgs["portMappings"] = ports
	}
	if dns := req.DNS; len(dns.Servers)+len(dns.Searches)+len(dns.Options) > 0 {
		rt.CapabilityArgs["dns"] = capabilityDNS(dns)
	}
	return rt
}

// argsBeside are the sandbox's arguments that a NIC does not give itself.
func argsBeside(args map[string]string, nic vm.NICSpec) map[string]string {
	beside := maps.Clone(args)
	maps.DeleteFunc(beside, func(key, _ string) bool { _, own := nic.Args[key]; return own })
	for key, value := range map[string]string{argPort: nic.PortID, argSubnet: nic.Subnet, argVPC: nic.VPC, argTag: nic.Tag} {
		if value != "" {
			delete(beside, key)
		}
	}
	return beside
}

// capabilityPort and capabilityDNS are CNI's conventions for "portMappings" and "dns".
type capabilityPort struct {
	HostPort      int32  `json:"hostPort"`
	ContainerPort int32  `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP,omitempty"`
}

type capabilityDNS struct {
	Servers  []string `json:"servers,omitempty"`
	Searches []string `json:"searches,omitempty"`
	Options  []string `json:"options,omitempty"`
}

// hostPorts leaves out ports that are not asked for on the host: kubelet sends all ports
// that the pod's containers declare.
func hostPorts(mappings []vm.PortMapping) []capabilityPort {
	var ports []capabilityPort
	for _, m := range mappings {
		if m.HostPort > 0 {
			ports = append(ports, capabilityPort{HostPort: m.HostPort, ContainerPort: m.ContainerPort, Protocol: m.Protocol, HostIP: m.HostIP})
		}
	}
	return ports
}

func (n *Network) add(ctx context.Context, a attachment, netns string) (*types100.Result, error) {
	list, err := libcni.NetworkConfFromBytes(a.Config)
	if err != nil {
		return nil, fmt.Errorf("CNI ADD: %w", err)
	}
	ctx, cancel := withTimeout(ctx, n.conf.AddTimeout)
	defer cancel()
	result, err := n.cni.AddNetworkList(ctx, list, runtimeConf(a, list, netns))
	if err != nil {
		return nil, fmt.Errorf("CNI ADD to network %s: %w", list.Name, err)
	}
	converted, err := types100.NewResultFromResult(result)
	if err != nil {
		return nil, fmt.Errorf("CNI ADD to network %s: result: %w", list.Name, err)
	}
	return converted, nil
}

// check is nil where the configuration is too old to know CHECK or says not to use it.
func (n *Network) check(ctx context.Context, a attachment, netns string) error {
	list, err := libcni.NetworkConfFromBytes(a.Config)
	if err != nil {
		return fmt.Errorf("CNI CHECK: %w", err)
	}
	ctx, cancel := withTimeout(ctx, n.conf.AddTimeout)
	defer cancel()
	err = n.cni.CheckNetworkList(ctx, list, runtimeConf(a, list, netns))
	if err != nil && !errors.Is(err, libcni.ErrorCheckNotSupp) {
		return fmt.Errorf("CNI CHECK of network %s: %w", list.Name, err)
	}
	return nil
}

// del runs DEL. netns is "" where the namespace is gone, as CNI asks for.
func (n *Network) del(ctx context.Context, a attachment, netns string) error {
	list, err := libcni.NetworkConfFromBytes(a.Config)
	if err != nil {
		return fmt.Errorf("CNI DEL: %w", err)
	}
	if err := n.findPlugins(list); err != nil {
		return fmt.Errorf("CNI DEL: %w; bring it back, or remove %s to give up what it holds for the sandbox",
			err, n.attachments.path(a.fileOf()))
	}
	ctx, cancel := withTimeout(ctx, n.conf.DelTimeout)
	defer cancel()
	if err := n.cni.DelNetworkList(ctx, list, runtimeConf(a, list, netns)); err != nil {
		return fmt.Errorf("CNI DEL from network %s: %w", list.Name, err)
	}
	return nil
}

// attachmentOf is what the sandbox's ADD was called with; where nothing tells, the request
// as the caller knows it and the present configuration, if there is one.
func (n *Network) attachmentOf(req vm.NetworkRequest) (attachment, error) {
	a, err := n.attachments.get(req.SandboxID)
	if err != nil && !errdefs.IsNotFound(err) {
		return attachment{}, err
	}
	if len(a.Config) > 0 {
		return a, nil
	}
	a = attachment{Request: req}
	if list, err := chooseConfig(n.conf.ConfDir); err == nil {
		a.Config = list.Bytes
	}
	return a, nil
}
