// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"fmt"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

func mounts(in []*runtimeapi.Mount) ([]vm.Mount, error) {
	if len(in) == 0 {
		return nil, nil
	}
	out := make([]vm.Mount, 0, len(in))
	for i, m := range in {
		if err := checkMount(fmt.Sprintf("config.mounts[%d]", i), m); err != nil {
			return nil, err
		}
		out = append(out, vm.Mount{
			ContainerPath:     m.GetContainerPath(),
			HostPath:          m.GetHostPath(),
			ReadOnly:          m.GetReadonly(),
			RecursiveReadOnly: m.GetRecursiveReadOnly(),
			HostToGuest:       m.GetPropagation() == runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER,
			SELinuxRelabel:    m.GetSelinuxRelabel(),
		})
	}
	return out, nil
}

func checkMount(field string, m *runtimeapi.Mount) error {
	if m.GetImage() != nil {
		if m.GetHostPath() != "" {
			return invalid(field, "has both an image and a host_path")
		}
		return refused(field+".image", "image volumes cannot be mounted in a guest yet; remove the volume")
	}
	if err := checkHostPath(field+".container_path", m.GetContainerPath()); err != nil {
		return err
	}
	if err := checkHostPath(field+".host_path", m.GetHostPath()); err != nil {
		return err
	}
	if len(m.GetUidMappings())+len(m.GetGidMappings()) > 0 {
		return refused(field, "the guest's users are its own already; remove hostUsers: false")
	}
	if len(m.GetMountOptions()) > 0 {
		return refused(field+".mount_options", "are not applied in guests; remove them")
	}
	if err := checkReadOnly(field, m); err != nil {
		return err
	}
	switch m.GetPropagation() {
	case runtimeapi.MountPropagation_PROPAGATION_PRIVATE, runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER:
		return nil
	case runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL:
		return refused(field+".propagation", "a mount made in a guest cannot appear on the host; use HostToContainer or None")
	default:
		return invalid(field+".propagation", "%d is unknown", m.GetPropagation())
	}
}

// checkReadOnly holds recursive_read_only to its terms: "when set to true, readonly must
// be explicitly set to true, and propagation must be PRIVATE".
func checkReadOnly(field string, m *runtimeapi.Mount) error {
	if !m.GetRecursiveReadOnly() {
		return nil
	}
	if !m.GetReadonly() || m.GetPropagation() != runtimeapi.MountPropagation_PROPAGATION_PRIVATE {
		return invalid(field+".recursive_read_only", "needs readonly and private propagation")
	}
	return nil
}

// mountsBack tells a container's mounts as they were asked for.
func mountsBack(in []vm.Mount) []*runtimeapi.Mount {
	out := make([]*runtimeapi.Mount, 0, len(in))
	for _, m := range in {
		back := &runtimeapi.Mount{
			ContainerPath:     m.ContainerPath,
			HostPath:          m.HostPath,
			Readonly:          m.ReadOnly,
			RecursiveReadOnly: m.RecursiveReadOnly,
			SelinuxRelabel:    m.SELinuxRelabel,
		}
		if m.HostToGuest {
			back.Propagation = runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER
		}
		out = append(out, back)
	}
	return out
}
