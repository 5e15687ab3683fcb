// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

// image converts an image. Its ID is what every RPC calls it by: "the container runtime
// MUST always return the same value for Image.id, Container.image_id,
// ContainerStatus.image_id, PullImageResponse.image_ref". A VM image names no user: the
// guest's init decides who runs what.
func image(img vm.Image) *runtimeapi.Image {
	return &runtimeapi.Image{
		Id:          img.ID,
		RepoTags:    img.Tags,
		RepoDigests: img.Digests,
		Size:        uint64(max(img.Size, 1)), // "Must be > 0."
		Spec:        &runtimeapi.ImageSpec{Image: img.ID},
		Pinned:      img.Pinned,
	}
}

// digestedRef is the "Digested reference to the image in use": the name by digest that
// belongs to the name the image was asked for, else any, else the ID.
func digestedRef(img vm.Image, spec vm.ContainerSpec) string {
	asked := repository(imageName(spec))
	for _, ref := range img.Digests {
		if repository(ref) == asked {
			return ref
		}
	}
	if len(img.Digests) > 0 {
		return img.Digests[0]
	}
	return spec.ImageID
}

// repository is a reference without its tag or digest.
func repository(ref string) string {
	name, _, _ := strings.Cut(ref, "@")
	// A colon before the last slash belongs to the registry's port.
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	return name
}

func registryAuth(auth *runtimeapi.AuthConfig) vm.RegistryAuth {
	return vm.RegistryAuth{
		Username:      auth.GetUsername(),
		Password:      auth.GetPassword(),
		Auth:          auth.GetAuth(),
		ServerAddress: auth.GetServerAddress(),
		IdentityToken: auth.GetIdentityToken(),
		RegistryToken: auth.GetRegistryToken(),
	}
}

func filesystemUsage(u vm.FSUsage) *runtimeapi.FilesystemUsage {
	return &runtimeapi.FilesystemUsage{
		Timestamp:  nanos(u.At),
		FsId:       &runtimeapi.FilesystemIdentifier{Mountpoint: u.MountPoint},
		UsedBytes:  count(u.UsedBytes),
		InodesUsed: count(u.UsedInodes),
	}
}
