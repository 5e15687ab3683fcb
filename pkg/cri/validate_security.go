// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const securityField = "config.linux.security_context."

// checkSandboxSecurity looks at a sandbox's security context. By the CRI it holds for
// processes of the sandbox itself, of which a VM has none; namespaces are what counts.
func checkSandboxSecurity(sc *runtimeapi.LinuxSandboxSecurityContext) error {
	// "run_as_group should only be specified when run_as_user is specified; otherwise,
	// the runtime MUST error."
	if sc.GetRunAsGroup() != nil && sc.GetRunAsUser() == nil {
		return invalid(securityField+"run_as_group", "is set without run_as_user")
	}
	return checkNamespaces(securityField+"namespace_options", sc.GetNamespaceOptions())
}

// checkContainerSecurity looks at what a container's security context may not ask for. What
// it may is for security to convert.
func checkContainerSecurity(sc *runtimeapi.LinuxContainerSecurityContext, hasCommand bool) error {
	// "Only one of run_as_user and run_as_username can be specified at a time."
	if sc.GetRunAsUser() != nil && sc.GetRunAsUsername() != "" {
		return invalid(securityField+"run_as_username", "is set together with run_as_user")
	}
	// "run_as_group should only be specified when run_as_user or run_as_username is
	// specified; otherwise, the runtime MUST error."
	if sc.GetRunAsGroup() != nil && sc.GetRunAsUser() == nil && sc.GetRunAsUsername() == "" {
		return invalid(securityField+"run_as_group", "is set without run_as_user or run_as_username")
	}
	if err := checkNamespaces(securityField+"namespace_options", sc.GetNamespaceOptions()); err != nil {
		return err
	}
	// "Privileged mode is incompatible with the following options. If privileged is set,
	// the following features MAY have no effect: [...] seccomp, apparmor"
	if sc.GetPrivileged() {
		return nil
	}
	if !hasCommand && localhostProfile(sc.GetSeccomp(), deprecatedSeccomp(sc)) {
		return refused(securityField+"seccomp", "a profile is for the container's command, and this one has none; use RuntimeDefault")
	}
	if localhostProfile(sc.GetApparmor(), deprecatedApparmor(sc)) {
		return refused(securityField+"apparmor", "a profile of the host does not hold inside the guest; use RuntimeDefault")
	}
	return nil
}

// localhostProfile tells whether a profile file of the node is asked for. The typed
// field counts where it is set; the deprecated one is a string.
func localhostProfile(profile *runtimeapi.SecurityProfile, deprecated string) bool {
	if profile != nil {
		return profile.GetProfileType() == runtimeapi.SecurityProfile_Localhost
	}
	return strings.HasPrefix(deprecated, "localhost/")
}

func deprecatedSeccomp(sc *runtimeapi.LinuxContainerSecurityContext) string {
	return sc.GetSeccompProfilePath() //nolint:staticcheck // deprecated, and older kubelets still send it alone
}

func deprecatedApparmor(sc *runtimeapi.LinuxContainerSecurityContext) string {
	return sc.GetApparmorProfile() //nolint:staticcheck // deprecated, and older kubelets still send it alone
}

// checkNamespaces refuses namespaces that a VM cannot be in: those of the host and those
// of another container. POD and CONTAINER are one and the same in a VM.
func checkNamespaces(field string, opts *runtimeapi.NamespaceOption) error {
	for _, ns := range []struct {
		name, refusal string
		mode          runtimeapi.NamespaceMode
	}{
		{"network", "a VM has its own network stack; remove hostNetwork", opts.GetNetwork()},
		{"pid", "a VM has its own processes and cannot see the host's; remove hostPID", opts.GetPid()},
		{"ipc", "a VM has its own shared memory and cannot reach the host's; remove hostIPC", opts.GetIpc()},
	} {
		switch ns.mode {
		case runtimeapi.NamespaceMode_POD, runtimeapi.NamespaceMode_CONTAINER:
		case runtimeapi.NamespaceMode_NODE:
			return refused(field+"."+ns.name, ns.refusal)
		case runtimeapi.NamespaceMode_TARGET:
			return refused(field+"."+ns.name, "a VM pod runs one container at a time, so none can join another; instead of an ephemeral container use exec")
		default:
			return invalid(field+"."+ns.name, "%d is no namespace mode", ns.mode)
		}
	}
	return checkUserNamespace(field+".userns_options", opts.GetUsernsOptions())
}

// checkUserNamespace lets through no options and the node's users, which is what a pod
// with hostUsers unset or true brings.
func checkUserNamespace(field string, opts *runtimeapi.UserNamespace) error {
	if opts == nil || opts.GetMode() == runtimeapi.NamespaceMode_NODE && len(opts.GetUids())+len(opts.GetGids()) == 0 {
		return nil
	}
	switch opts.GetMode() {
	case runtimeapi.NamespaceMode_POD:
		return refused(field, "the guest's users are its own already; remove hostUsers: false")
	case runtimeapi.NamespaceMode_NODE:
		return invalid(field, "has mappings although the mode is NODE")
	default:
		// "NamespaceMode for UserNamespace currently supports only POD and NODE"
		return invalid(field+".mode", "%s is neither POD nor NODE", opts.GetMode())
	}
}
