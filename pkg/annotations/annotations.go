// SPDX-License-Identifier: Apache-2.0

// Package annotations reads what a pod asks of its VM in annotations. It is pure.
//
// All keys are in one table, which docs/reference/annotations.md repeats row by row. A key
// under our prefix that is not in it is refused, with the nearest that is: a typo must not
// be a wish that nobody hears. Errors show no value that may be secret.
package annotations

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/nearest"
	"github.com/vmlet/vmlet/pkg/vm"
)

// Prefix is what all keys of ours begin with. Other keys belong to others.
const Prefix = "vmlet.io/"

// The keys.
const (
	UserData       = Prefix + "user-data"
	UserDataBase64 = Prefix + "user-data-base64"
	SSHKeys        = Prefix + "ssh-keys"
	VCPUs          = Prefix + "vcpus"
	Memory         = Prefix + "memory"
	VCPUsDefault   = Prefix + "default-vcpus"
	VCPUsMax       = Prefix + "max-vcpus"
	MemoryMax      = Prefix + "max-memory"
	RootSize       = Prefix + "root-size"
	RootDisk       = Prefix + "root-disk"
	RootDiskClaim  = Prefix + "root-disk-claim"
	DiskBus        = Prefix + "disk-bus"
	Firmware       = Prefix + "firmware"
	GuestAgent     = Prefix + "guest-agent"
	AgentTimeout   = Prefix + "agent-timeout"
	PowerOff       = Prefix + "power-off"
)

// Key is one annotation that vmlet knows.
type Key struct {
	Name string
	// Values says what a value looks like; errors quote it. Doc says what it does.
	Values string
	Doc    string

	// hidden values are not shown in errors: they are secret, or may be by mistake.
	hidden bool
	parse  func(value string, o *vm.Overrides) error
}

var keys = []Key{
	{
		Name: UserData, Values: "text", hidden: true, parse: parseUserData,
		Doc: "cloud-init user-data, passed on byte for byte",
	},
	{
		Name: UserDataBase64, Values: "standard base64, with padding", hidden: true, parse: parseUserDataBase64,
		Doc: "the same in base64, for user-data that is no text",
	},
	{
		Name: SSHKeys, Values: "OpenSSH public keys, one a line; empty lines and lines that begin with # are skipped",
		hidden: true, parse: parseSSHKeys,
		Doc: "public keys that may log in as the image's default user",
	},
	{
		Name: VCPUs, Values: fmt.Sprintf("a whole number from 1 to %d", MaxVCPUs), parse: parseVCPUs,
		Doc: "number of virtual CPUs, in place of the one derived from the CPU limit",
	},
	{
		Name: Memory, Values: quantityValues, parse: parseMemory,
		Doc: "RAM of the guest, in place of the one derived from the memory limit",
	},
	{
		Name: VCPUsDefault, Values: fmt.Sprintf("a whole number from 1 to %d", MaxVCPUs), parse: parseDefaultVCPUs,
		Doc: "number of virtual CPUs where there is no CPU limit, in place of defaults.vcpus",
	},
	{
		Name: VCPUsMax, Values: fmt.Sprintf("a whole number from 1 to %d", MaxVCPUs), parse: parseMaxVCPUs,
		Doc: "how many virtual CPUs the VM can be given while it runs, in place of defaults.maxVCPUs; one that begins with more gets no more",
	},
	{
		Name: MemoryMax, Values: quantityValues, parse: parseMaxMemory,
		Doc: "how much RAM the guest can be given while it runs, in place of what defaults.memoryHeadroom says; the kernel of a guest of less than 4 GiB sets 64 MiB aside for it, so 160Mi of memory are the least",
	},
	{
		Name: RootSize, Values: quantityValues, parse: parseRootSize,
		Doc: "size of the root disk; it is never made smaller than its image, nor than it was",
	},
	{
		Name: RootDisk, Values: string(vm.RootDiskFresh) + ", " + string(vm.RootDiskSandbox) + " or " + string(vm.RootDiskPersistent), parse: parseRootDisk,
		Doc: "how long the root disk lives: for one container, for the sandbox (the default), or until it is removed by name",
	},
	{
		Name: RootDiskClaim, Values: "a DNS-1123 subdomain, such as db-0", parse: parseRootDiskClaim,
		Doc: "names a persistent root disk that pods of the namespace use in turn, in place of one of the pod's own",
	},
	{
		Name: DiskBus, Values: vm.BusVirtio + " or " + vm.BusSCSI, parse: parseDiskBus,
		Doc: "bus of the disks",
	},
	{
		Name: Firmware, Values: string(vm.FirmwareBIOS) + " or " + string(vm.FirmwareEFI), parse: parseFirmware,
		Doc: "what the VM boots by: BIOS (the default), or UEFI without Secure Boot, which takes 256 MiB of RAM",
	},
	{
		Name: GuestAgent, Values: string(vm.GuestAgentImage) + ", " + string(vm.GuestAgentSeed) + " or " + string(vm.GuestAgentQGA), parse: parseGuestAgent,
		Doc: "how the guest comes by its agent: vmlet-agent is in the image (the default), cloud-init installs it from the seed, or there is only qemu-guest-agent",
	},
	{
		Name: AgentTimeout, Values: "a duration such as 90s or 5m, at most 1h", parse: parseAgentTimeout,
		Doc: "how long a command waits for vmlet-agent in its guest, in place of defaults.agentTimeout",
	},
	{
		Name: PowerOff, Values: string(vm.PowerOffHeld) + " or " + string(vm.PowerOffExits), parse: parsePowerOff,
		Doc: "what a poweroff by PowerOff is to the CRI: the container stays RUNNING and can be powered on (the default), or it ends",
	},
}

func names() []string {
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i] = k.Name
	}
	return out
}

// Keys lists the annotations that vmlet knows, in the order of their documentation.
func Keys() []Key { return slices.Clone(keys) }

// Parse reads the annotations of ours. An unknown key under our prefix, a value that does
// not parse, and two keys that exclude each other are InvalidArgument; which of several
// faults is told does not depend on the map's order. Errors never hold user-data.
func Parse(annotations map[string]string) (vm.Overrides, error) {
	var o vm.Overrides
	for _, name := range slices.Sorted(maps.Keys(annotations)) {
		if !strings.HasPrefix(name, Prefix) {
			continue
		}
		i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == name })
		if i < 0 {
			best, _ := nearest.Word(shorten(name), names())
			return vm.Overrides{}, fmt.Errorf("annotation %s is not known, the nearest is %s: %w",
				shorten(name), best, errdefs.ErrInvalidArgument)
		}
		if err := keys[i].parse(annotations[name], &o); err != nil {
			return vm.Overrides{}, keys[i].refuse(annotations[name], err)
		}
	}
	if _, text := annotations[UserData]; text {
		if _, encoded := annotations[UserDataBase64]; encoded {
			return vm.Overrides{}, fmt.Errorf("annotations %s and %s exclude each other: %w",
				UserData, UserDataBase64, errdefs.ErrInvalidArgument)
		}
	}
	if o.RootDiskClaim != "" && o.RootDisk != vm.RootDiskPersistent {
		return vm.Overrides{}, fmt.Errorf("annotation %s names a persistent disk: it needs %s: %s beside it: %w",
			RootDiskClaim, RootDisk, vm.RootDiskPersistent, errdefs.ErrInvalidArgument)
	}
	return o, nil
}

func (k Key) refuse(value string, cause error) error {
	if k.hidden {
		return fmt.Errorf("annotation %s: %w; it takes %s: %w", k.Name, cause, k.Values, errdefs.ErrInvalidArgument)
	}
	return fmt.Errorf("annotation %s: %q %w; it takes %s: %w",
		k.Name, shorten(value), cause, k.Values, errdefs.ErrInvalidArgument)
}

// shorten keeps what someone else wrote from filling a log.
func shorten(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
