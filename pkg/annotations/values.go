// SPDX-License-Identifier: Apache-2.0

package annotations

import (
	"encoding/base64"
	"errors"
	"regexp"
	"strconv"
	"time"

	"github.com/vmlet/vmlet/pkg/vm"
)

// MaxVCPUs is what machine q35 takes without an emulated IOMMU (x2APIC IDs above 254 need
// its interrupt remapping).
const MaxVCPUs = 255

func parseUserData(value string, o *vm.Overrides) error {
	o.UserData = []byte(value)
	return nil
}

func parseUserDataBase64(value string, o *vm.Overrides) error {
	data, err := base64.StdEncoding.Strict().DecodeString(value)
	if err != nil {
		// The decoder's own error says where, not what.
		return errors.New("the value is not base64")
	}
	o.UserData = data
	return nil
}

func parseVCPUs(value string, o *vm.Overrides) error {
	n, err := strconv.Atoi(value)
	if err != nil {
		return errors.New("is no number")
	}
	if n < 1 || n > MaxVCPUs {
		return errors.New("is out of range")
	}
	o.VCPUs = n
	return nil
}

func parseMemory(value string, o *vm.Overrides) (err error) {
	o.Memory, err = parseBytes(value)
	return err
}

func parseMaxVCPUs(value string, o *vm.Overrides) error {
	var most vm.Overrides
	err := parseVCPUs(value, &most)
	o.MaxVCPUs = most.VCPUs
	return err
}

func parseDefaultVCPUs(value string, o *vm.Overrides) error {
	var unlimited vm.Overrides
	err := parseVCPUs(value, &unlimited)
	o.DefaultVCPUs = unlimited.VCPUs
	return err
}

func parseMaxMemory(value string, o *vm.Overrides) (err error) {
	o.MaxMemory, err = parseBytes(value)
	return err
}

func parseRootSize(value string, o *vm.Overrides) (err error) {
	o.RootSize, err = parseBytes(value)
	return err
}

func parseRootDisk(value string, o *vm.Overrides) error {
	switch policy := vm.RootDiskPolicy(value); policy {
	case vm.RootDiskFresh, vm.RootDiskSandbox, vm.RootDiskPersistent:
		o.RootDisk = policy
		return nil
	}
	return errors.New("is no policy")
}

// subdomain is what Kubernetes lets objects be called ("DNS-1123 subdomain").
var subdomain = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)

// maxSubdomain is in bytes.
const maxSubdomain = 253

func parseRootDiskClaim(value string, o *vm.Overrides) error {
	if len(value) > maxSubdomain || !subdomain.MatchString(value) {
		return errors.New("is no name of a claim")
	}
	o.RootDiskClaim = value
	return nil
}

func parseDiskBus(value string, o *vm.Overrides) error {
	if value != vm.BusVirtio && value != vm.BusSCSI {
		return errors.New("is no bus")
	}
	o.DiskBus = value
	return nil
}

func parseGuestAgent(value string, o *vm.Overrides) error {
	switch agent := vm.GuestAgent(value); agent {
	case vm.GuestAgentImage, vm.GuestAgentSeed, vm.GuestAgentQGA:
		o.GuestAgent = agent
		return nil
	}
	return errors.New("is no way to an agent")
}

// MaxAgentTimeout is the longest that a command may wait for its guest's agent.
const MaxAgentTimeout = time.Hour

func parseAgentTimeout(value string, o *vm.Overrides) error {
	d, err := time.ParseDuration(value)
	switch {
	case err != nil:
		return errors.New("is no duration")
	case d <= 0 || d > MaxAgentTimeout:
		return errors.New("is out of range")
	}
	o.AgentTimeout = d
	return nil
}

func parsePowerOff(value string, o *vm.Overrides) error {
	switch policy := vm.PowerOffPolicy(value); policy {
	case vm.PowerOffHeld, vm.PowerOffExits:
		o.PowerOff = policy
		return nil
	}
	return errors.New("is no policy")
}
