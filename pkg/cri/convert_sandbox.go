// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"path/filepath"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

// sandboxSpec converts what RunPodSandbox was asked for.
func sandboxSpec(config *runtimeapi.PodSandboxConfig, handler string) (vm.SandboxSpec, error) {
	spec := vm.SandboxSpec{
		Labels:         config.GetLabels(),
		Annotations:    config.GetAnnotations(),
		RuntimeHandler: handler,
		Sysctls:        config.GetLinux().GetSysctls(),
		Namespaces:     namespaces(config.GetLinux().GetSecurityContext().GetNamespaceOptions()),
	}
	if err := checkSandboxSecurity(config.GetLinux().GetSecurityContext()); err != nil {
		return vm.SandboxSpec{}, err
	}
	for _, part := range []func(*runtimeapi.PodSandboxConfig, *vm.SandboxSpec) error{
		sandboxIdentity, sandboxPlace, sandboxNetwork, sandboxResources,
	} {
		if err := part(config, &spec); err != nil {
			return vm.SandboxSpec{}, err
		}
	}
	return spec, nil
}

// sandboxIdentity fills in the names. All parts of the metadata are demanded: together
// they are what a retried call is recognised by ("This information will uniquely
// identify the sandbox").
func sandboxIdentity(config *runtimeapi.PodSandboxConfig, spec *vm.SandboxSpec) error {
	meta := config.GetMetadata()
	if meta == nil {
		return invalid("config.metadata", "must be set")
	}
	for _, part := range []struct{ field, value string }{
		{"name", meta.GetName()}, {"namespace", meta.GetNamespace()}, {"uid", meta.GetUid()},
	} {
		if err := checkName("config.metadata."+part.field, part.value, maxName); err != nil {
			return err
		}
	}
	spec.Name, spec.Namespace, spec.UID, spec.Attempt = meta.GetName(), meta.GetNamespace(), meta.GetUid(), meta.GetAttempt()

	// "Hostname could only be empty when the pod network namespace is NODE": kubelets keep
	// to that, crictl and critest do not.
	spec.Hostname = config.GetHostname()
	if spec.Hostname == "" {
		spec.Hostname = hostnameFor(spec.Name)
	}
	return checkHostname("config.hostname", spec.Hostname)
}

// sandboxPlace fills in where on the host the pod's logs and cgroup are.
func sandboxPlace(config *runtimeapi.PodSandboxConfig, spec *vm.SandboxSpec) error {
	if dir := config.GetLogDirectory(); dir != "" {
		if err := checkHostPath("config.log_directory", dir); err != nil {
			return err
		}
		spec.LogDirectory = filepath.Clean(dir)
	}
	spec.CgroupParent = config.GetLinux().GetCgroupParent()
	if climbs(spec.CgroupParent) || hasControl(spec.CgroupParent) {
		return invalid("config.linux.cgroup_parent", "%q must not hold \"..\" or control characters", spec.CgroupParent)
	}
	return nil
}

func sandboxNetwork(config *runtimeapi.PodSandboxConfig, spec *vm.SandboxSpec) (err error) {
	if spec.DNS, err = dnsConfig(config.GetDnsConfig()); err != nil {
		return err
	}
	spec.PortMappings, err = portMappings(config.GetPortMappings())
	return err
}

func sandboxResources(config *runtimeapi.PodSandboxConfig, spec *vm.SandboxSpec) (err error) {
	if spec.Resources, err = resources("config.linux.resources", config.GetLinux().GetResources()); err != nil {
		return err
	}
	spec.Overhead, err = resources("config.linux.overhead", config.GetLinux().GetOverhead())
	return err
}

// podSandboxStatus converts a sandbox. Lists have their own way: see appendSandbox.
func podSandboxStatus(sb vm.Sandbox) *runtimeapi.PodSandboxStatus {
	return &runtimeapi.PodSandboxStatus{
		Id:        sb.ID,
		Metadata:  sandboxMetadata(sb),
		State:     sandboxState(sb.Status.State),
		CreatedAt: nanos(sb.CreatedAt),
		Network:   networkStatus(sb.Status.Network),
		Linux: &runtimeapi.LinuxPodSandboxStatus{
			Namespaces: &runtimeapi.Namespace{Options: namespaceOptions(sb.Spec.Namespaces)},
		},
		Labels:         sb.Spec.Labels,
		Annotations:    sb.Spec.Annotations,
		RuntimeHandler: sb.Spec.RuntimeHandler,
	}
}

func sandboxMetadata(sb vm.Sandbox) *runtimeapi.PodSandboxMetadata {
	return &runtimeapi.PodSandboxMetadata{
		Name: sb.Spec.Name, Uid: sb.Spec.UID, Namespace: sb.Spec.Namespace, Attempt: sb.Spec.Attempt,
	}
}

// sandboxState is CRI's view of a state: a sandbox that is not wholly there is not ready.
func sandboxState(s vm.SandboxState) runtimeapi.PodSandboxState {
	if s == vm.SandboxReady {
		return runtimeapi.PodSandboxState_SANDBOX_READY
	}
	return runtimeapi.PodSandboxState_SANDBOX_NOTREADY
}

// networkStatus shows the primary address and, apart from it, the others
// ("additional_ips: list of additional ips (not inclusive of PodSandboxNetworkStatus.Ip)").
func networkStatus(n *vm.Network) *runtimeapi.PodSandboxNetworkStatus {
	status := &runtimeapi.PodSandboxNetworkStatus{}
	for i, ip := range n.IPs() {
		if i == 0 {
			status.Ip = ip.String()
			continue
		}
		status.AdditionalIps = append(status.AdditionalIps, &runtimeapi.PodIP{Ip: ip.String()})
	}
	return status
}
