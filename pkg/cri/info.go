// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/vmlet/vmlet/pkg/vm"
)

// The verbose answers: one key, "info", with JSON for people and scripts. They hold no
// value of an environment variable, no annotation and no user-data.

type sandboxDetails struct {
	SandboxID string          `json:"sandboxID"`
	Domain    string          `json:"domain"`
	UUID      string          `json:"uuid"`
	State     vm.SandboxState `json:"state"`
	Message   string          `json:"message,omitempty"`
	Hostname  string          `json:"hostname"`
	NetNS     string          `json:"netns,omitempty"`
	NICs      []vm.NIC        `json:"nics,omitempty"`
	// Attached are what was asked for of those NICs that were attached later.
	Attached []vm.NICSpec `json:"attached,omitempty"`
	Tenant   string       `json:"tenant,omitempty"`
	// CNIArgs are what CNI's plugins are told beside who the pod is.
	CNIArgs      map[string]string `json:"cniArgs,omitempty"`
	Disks        []vm.Disk         `json:"disks,omitempty"`
	CgroupParent string            `json:"cgroupParent,omitempty"`
	Resources    *vm.Resources     `json:"resources,omitempty"`
	Overhead     *vm.Resources     `json:"overhead,omitempty"`
}

func sandboxInfo(sb vm.Sandbox, disks []vm.Disk) (map[string]string, error) {
	details := sandboxDetails{
		SandboxID:    sb.ID,
		Domain:       sb.DomainName(),
		UUID:         sb.UUID(),
		State:        sb.Status.State,
		Message:      sb.Status.Message,
		Hostname:     sb.Spec.Hostname,
		Disks:        disks,
		CgroupParent: sb.Spec.CgroupParent,
		Resources:    sb.Present().Resources,
		Overhead:     sb.Present().Overhead,
		Tenant:       sb.Spec.Tenant,
		CNIArgs:      sb.Spec.CNIArgs,
	}
	for _, n := range sb.Status.NICs {
		details.Attached = append(details.Attached, n.Spec)
	}
	if n := sb.Status.Network; n != nil {
		details.NetNS, details.NICs = n.NetNS, sb.NICs()
	}
	return infoOf("sandbox "+sb.ID, details)
}

type containerDetails struct {
	ContainerID string            `json:"containerID"`
	SandboxID   string            `json:"sandboxID"`
	Domain      string            `json:"domain"`
	State       vm.ContainerState `json:"state"`
	Stop        *vm.StopIntent    `json:"stop,omitempty"`
	Reboot      *vm.RebootIntent  `json:"reboot,omitempty"`
	Paused      bool              `json:"paused,omitempty"`
	PowerOff    *vm.PowerOff      `json:"powerOff,omitempty"`
	PoweredOff  bool              `json:"poweredOff,omitempty"`
	ImageRef    string            `json:"imageRef"`
	ImageID     string            `json:"imageID"`
	LogPath     string            `json:"logPath,omitempty"`
	Resources   *vm.Resources     `json:"resources,omitempty"`
}

func containerInfo(c vm.Container) (map[string]string, error) {
	return infoOf("container "+c.ID, containerDetails{
		ContainerID: c.ID,
		SandboxID:   c.SandboxID,
		Domain:      vm.DomainName(c.SandboxID),
		State:       c.Status.State,
		Stop:        c.Status.Stop,
		Reboot:      c.Status.Reboot,
		Paused:      c.Status.Paused,
		PowerOff:    c.Status.PowerOff,
		PoweredOff:  c.Status.Off(),
		ImageRef:    c.Spec.ImageRef,
		ImageID:     c.Spec.ImageID,
		LogPath:     c.Spec.LogPath,
		Resources:   c.Held().Resources,
	})
}

type imageDetails struct {
	Path        string        `json:"path"`
	Format      vm.DiskFormat `json:"format"`
	VirtualSize int64         `json:"virtualSize"`
	PulledAt    time.Time     `json:"pulledAt"`
}

func imageInfo(img vm.Image) (map[string]string, error) {
	return infoOf("image "+img.ID, imageDetails{
		Path: img.Path, Format: img.Format, VirtualSize: img.VirtualSize, PulledAt: img.PulledAt,
	})
}

func infoOf(what string, details any) (map[string]string, error) {
	text, err := json.Marshal(details)
	if err != nil {
		return nil, fmt.Errorf("verbose information about %s: %w", what, err)
	}
	return map[string]string{"info": string(text)}, nil
}
