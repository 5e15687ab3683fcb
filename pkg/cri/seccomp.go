// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/seccomp"
	"github.com/vmlet/vmlet/pkg/vm"
)

// addSeccomp compiles the profile that a container asks for, if it has a command that it
// could hold for. The profile's file is read now: a later change does not reach the
// container, nor does a file that is not there any more when it starts.
func addSeccomp(to *vm.Security, sc *runtimeapi.LinuxContainerSecurityContext, hasCommand bool) (err error) {
	if !hasCommand || sc.GetPrivileged() {
		return nil
	}
	profile, err := profileOf(sc.GetSeccomp(), deprecatedSeccomp(sc))
	if err != nil {
		return err
	}
	switch profile.GetProfileType() {
	case runtimeapi.SecurityProfile_Unconfined:
		return nil
	case runtimeapi.SecurityProfile_RuntimeDefault:
		to.Seccomp, err = seccomp.Default(runtime.GOARCH, to.Capabilities)
	case runtimeapi.SecurityProfile_Localhost:
		if err := checkHostPath(securityField+"seccomp.localhost_ref", profile.GetLocalhostRef()); err != nil {
			return err
		}
		to.Seccomp, err = seccomp.File(profile.GetLocalhostRef(), runtime.GOARCH, to.Capabilities)
	default:
		return invalid(securityField+"seccomp.profile_type", "%d is unknown", profile.GetProfileType())
	}
	if errors.Is(err, errdefs.ErrNotFound) {
		return refused(securityField+"seccomp", "the node has no profile "+profile.GetLocalhostRef())
	}
	if err != nil {
		return fmt.Errorf("%sseccomp: %w", securityField, err)
	}
	return nil
}

// profileOf is the profile that counts: the typed field where it is set, or else the
// deprecated string.
func profileOf(profile *runtimeapi.SecurityProfile, deprecated string) (*runtimeapi.SecurityProfile, error) {
	if profile != nil {
		return profile, nil
	}
	if path, ok := strings.CutPrefix(deprecated, "localhost/"); ok {
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: path}, nil
	}
	switch deprecated {
	case "", "unconfined": // "Default: "", which is identical with unconfined."
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}, nil
	case "runtime/default", "docker/default":
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}, nil
	}
	return nil, invalid(securityField+"seccomp_profile_path", "%q is no profile", deprecated)
}
