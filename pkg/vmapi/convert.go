// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// The tables of words. A word that is in none is 0, UNSPECIFIED: an older client sees the
// same when a newer server has learnt one.
var (
	pullPhases = map[string]vmletv1.PullPhase{
		vm.PullResolving:   vmletv1.PullPhase_PULL_PHASE_RESOLVING,
		vm.PullDownloading: vmletv1.PullPhase_PULL_PHASE_DOWNLOADING,
		vm.PullVerifying:   vmletv1.PullPhase_PULL_PHASE_VERIFYING,
		vm.PullDone:        vmletv1.PullPhase_PULL_PHASE_DONE,
	}
	diskFormats = map[vm.DiskFormat]vmletv1.DiskFormat{
		vm.FormatQCOW2: vmletv1.DiskFormat_DISK_FORMAT_QCOW2,
		vm.FormatRaw:   vmletv1.DiskFormat_DISK_FORMAT_RAW,
	}
	diskBuses = map[string]vmletv1.DiskBus{
		vm.BusVirtio: vmletv1.DiskBus_DISK_BUS_VIRTIO,
		vm.BusSCSI:   vmletv1.DiskBus_DISK_BUS_SCSI,
	}
	vmDiskStates = map[vm.DataDiskState]vmletv1.VMDiskState{
		vm.DataDiskAttaching: vmletv1.VMDiskState_VM_DISK_STATE_ATTACHING,
		vm.DataDiskAttached:  vmletv1.VMDiskState_VM_DISK_STATE_ATTACHED,
		vm.DataDiskDetaching: vmletv1.VMDiskState_VM_DISK_STATE_DETACHING,
		vm.DataDiskDetached:  vmletv1.VMDiskState_VM_DISK_STATE_DETACHED,
	}
	growths = map[vm.Growth]vmletv1.FileSystemGrowth{
		vm.GrowthGrown:   vmletv1.FileSystemGrowth_FILE_SYSTEM_GROWTH_GROWN,
		vm.GrowthSkipped: vmletv1.FileSystemGrowth_FILE_SYSTEM_GROWTH_SKIPPED,
		vm.GrowthFailed:  vmletv1.FileSystemGrowth_FILE_SYSTEM_GROWTH_FAILED,
	}
	checkLevels = map[vm.CheckLevel]vmletv1.CheckLevel{
		vm.CheckOK:   vmletv1.CheckLevel_CHECK_LEVEL_OK,
		vm.CheckWarn: vmletv1.CheckLevel_CHECK_LEVEL_WARN,
		vm.CheckFail: vmletv1.CheckLevel_CHECK_LEVEL_FAIL,
	}
	rebootModes = map[vmletv1.RebootMode]vm.RebootMode{
		vmletv1.RebootMode_REBOOT_MODE_UNSPECIFIED: vm.RebootAny,
		vmletv1.RebootMode_REBOOT_MODE_AGENT:       vm.RebootAgent,
		vmletv1.RebootMode_REBOOT_MODE_ACPI:        vm.RebootACPI,
		vmletv1.RebootMode_REBOOT_MODE_RESET:       vm.RebootReset,
	}
	accelerators = map[vm.Accel]vmletv1.Accelerator{
		vm.AccelKVM: vmletv1.Accelerator_ACCELERATOR_KVM,
		vm.AccelTCG: vmletv1.Accelerator_ACCELERATOR_TCG,
	}
)

func rebootModeOf(mode vm.RebootMode) vmletv1.RebootMode {
	for theirs, ours := range rebootModes {
		if ours == mode {
			return theirs
		}
	}
	return vmletv1.RebootMode_REBOOT_MODE_UNSPECIFIED
}

// checkVM refuses a request that names no VM.
func checkVM(ref string) error {
	if ref == "" {
		return fmt.Errorf("vm: must not be empty: the ID of a sandbox or a container, or NAMESPACE/POD: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}

func image(img vm.Image) *vmletv1.Image {
	return &vmletv1.Image{
		Id:               img.ID,
		RepoTags:         img.Tags,
		RepoDigests:      img.Digests,
		SizeBytes:        img.Size,
		VirtualSizeBytes: img.VirtualSize,
		Format:           diskFormats[img.Format],
	}
}

func disk(d vm.HeldDisk) *vmletv1.Disk {
	out := &vmletv1.Disk{
		Name:      d.Key.Name(),
		Namespace: d.Key.Namespace,
		Claim:     d.Key.Claim,
		PodUid:    d.Key.PodUID,
		Container: d.Key.Container,
		ImageId:   d.Disk.ImageID,
		SizeBytes: d.Disk.Size,
		UsedBytes: int64(d.Used),
		Path:      d.Disk.Path,
		CreatedAt: d.CreatedAt.UnixNano(),
		Removing:  d.Status.Removing,
	}
	if sb := d.Holder; sb != nil {
		out.Holder = &vmletv1.DiskHolder{PodSandboxId: sb.ID, Namespace: sb.Spec.Namespace, Name: sb.Spec.Name}
	}
	for _, snap := range d.Snapshots {
		out.Snapshots = append(out.Snapshots, snapshotOf(snap))
	}
	out.Layers = layersOf(d.Layers)
	return out
}

func progress(p vm.PullProgress) *vmletv1.PullProgress {
	return &vmletv1.PullProgress{Phase: pullPhases[p.Phase], DoneBytes: p.Done, TotalBytes: p.Total}
}

func registryAuth(auth *vmletv1.RegistryAuth) vm.RegistryAuth {
	return vm.RegistryAuth{
		Username:      auth.GetUsername(),
		Password:      auth.GetPassword(),
		Auth:          auth.GetAuth(),
		ServerAddress: auth.GetServerAddress(),
		IdentityToken: auth.GetIdentityToken(),
		RegistryToken: auth.GetRegistryToken(),
	}
}

func check(c vm.Check) *vmletv1.Check {
	return &vmletv1.Check{Name: c.Name, Level: checkLevels[c.Level], Summary: c.Summary, Mend: c.Mend}
}
