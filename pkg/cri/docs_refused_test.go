// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"testing"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// refusedFields asks, for each field that the reference page calls refused, for what its
// row says is refused.
func refusedFields() map[string]*runtimeapi.ContainerConfig {
	mount := func(m *runtimeapi.Mount) *runtimeapi.ContainerConfig {
		m.ContainerPath = "/c"
		if m.GetImage() == nil {
			m.HostPath = "/h"
		}
		return &runtimeapi.ContainerConfig{Mounts: []*runtimeapi.Mount{m}}
	}
	security := func(sc *runtimeapi.LinuxContainerSecurityContext) *runtimeapi.ContainerConfig {
		return &runtimeapi.ContainerConfig{Linux: &runtimeapi.LinuxContainerConfig{SecurityContext: sc}}
	}
	users := func(u *runtimeapi.UserNamespace) *runtimeapi.ContainerConfig {
		return security(&runtimeapi.LinuxContainerSecurityContext{
			NamespaceOptions: &runtimeapi.NamespaceOption{UsernsOptions: u},
		})
	}
	const pod = runtimeapi.NamespaceMode_POD
	ids := []*runtimeapi.IDMapping{{Length: 1}}
	local := &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: "p"}
	huge := &runtimeapi.ContainerConfig{Linux: &runtimeapi.LinuxContainerConfig{
		Resources: &runtimeapi.LinuxContainerResources{HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB", Limit: 1}}},
	}}
	return map[string]*runtimeapi.ContainerConfig{
		"ContainerConfig.devices":     {Devices: []*runtimeapi.Device{{}}},
		"ContainerConfig.CDI_devices": {CDIDevices: []*runtimeapi.CDIDevice{{}}},

		"Device.container_path": {Devices: []*runtimeapi.Device{{ContainerPath: "/dev/fuse"}}},
		"Device.host_path":      {Devices: []*runtimeapi.Device{{HostPath: "/dev/fuse"}}},
		"Device.permissions":    {Devices: []*runtimeapi.Device{{Permissions: "rw"}}},
		"CDIDevice.name":        {CDIDevices: []*runtimeapi.CDIDevice{{Name: "v/g=0"}}},

		"Mount.uidMappings":   mount(&runtimeapi.Mount{UidMappings: ids}),
		"Mount.gidMappings":   mount(&runtimeapi.Mount{GidMappings: ids}),
		"Mount.image":         mount(&runtimeapi.Mount{Image: &runtimeapi.ImageSpec{Image: "i"}}),
		"Mount.mount_options": mount(&runtimeapi.Mount{MountOptions: []string{"noexec"}}),

		"NamespaceOption.userns_options": users(&runtimeapi.UserNamespace{Mode: pod}),
		"UserNamespace.mode":             users(&runtimeapi.UserNamespace{Mode: pod}),
		"UserNamespace.uids":             users(&runtimeapi.UserNamespace{Mode: pod, Uids: ids}),
		"UserNamespace.gids":             users(&runtimeapi.UserNamespace{Mode: pod, Gids: ids}),
		"IDMapping.host_id":              mount(&runtimeapi.Mount{UidMappings: []*runtimeapi.IDMapping{{HostId: 1}}}),
		"IDMapping.container_id":         mount(&runtimeapi.Mount{GidMappings: []*runtimeapi.IDMapping{{ContainerId: 1}}}),
		"IDMapping.length":               mount(&runtimeapi.Mount{UidMappings: ids}),

		"LinuxContainerSecurityContext.apparmor": security(&runtimeapi.LinuxContainerSecurityContext{Apparmor: local}),
		"LinuxContainerSecurityContext.apparmor_profile": security(&runtimeapi.LinuxContainerSecurityContext{
			ApparmorProfile: "localhost/p", //nolint:staticcheck // deprecated, and on the page
		}),

		"LinuxContainerResources.hugepage_limits": huge,
		"HugepageLimit.page_size":                 huge,
		"HugepageLimit.limit":                     huge,
	}
}

// TestReferencePageTellsRefusalsTrue fails when a field is refused no longer, too.
func TestReferencePageTellsRefusalsTrue(t *testing.T) {
	ask := refusedFields()
	for section, rows := range referencePage(t) {
		for field, r := range rows {
			name := section + "." + field
			config, ok := ask[name]
			if (r.what == "refused") != ok {
				t.Errorf("%s: the page says %q; refusedFields asks for it: %v", name, r.what, ok)
			}
			if !ok {
				continue
			}
			delete(ask, name)
			t.Run(name, func(t *testing.T) {
				config.Metadata, config.Image = &runtimeapi.ContainerMetadata{Name: "c"}, &runtimeapi.ImageSpec{Image: "i"}
				_, err := containerSpec(config, "")
				wantClass(t, err, errdefs.ErrFailedPrecondition, "config.")
			})
		}
	}
	for name := range ask {
		t.Errorf("the page has no row for %s", name)
	}
}
