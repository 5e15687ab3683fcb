// SPDX-License-Identifier: Apache-2.0

package annotations

import (
	"encoding/base64"
	"errors"
	"regexp"
	"slices"
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

// oneOf parses a word that is one of those; what names them in an error.
func oneOf[T ~string](what string, set func(*vm.Overrides, T), words ...T) func(string, *vm.Overrides) error {
	return func(value string, o *vm.Overrides) error {
		if !slices.Contains(words, T(value)) {
			return errors.New("is no " + what)
		}
		set(o, T(value))
		return nil
	}
}

var (
	parseRootDisk = oneOf("policy", func(o *vm.Overrides, p vm.RootDiskPolicy) { o.RootDisk = p },
		vm.RootDiskFresh, vm.RootDiskSandbox, vm.RootDiskPersistent)
	parseDiskBus    = oneOf("bus", func(o *vm.Overrides, bus string) { o.DiskBus = bus }, vm.BusVirtio, vm.BusSCSI)
	parseFirmware   = oneOf("firmware", func(o *vm.Overrides, f vm.Firmware) { o.Firmware = f }, vm.FirmwareBIOS, vm.FirmwareEFI)
	parseGuestAgent = oneOf("way to an agent", func(o *vm.Overrides, a vm.GuestAgent) { o.GuestAgent = a },
		vm.GuestAgentImage, vm.GuestAgentSeed, vm.GuestAgentQGA)
	parsePowerOff = oneOf("policy", func(o *vm.Overrides, p vm.PowerOffPolicy) { o.PowerOff = p }, vm.PowerOffHeld, vm.PowerOffExits)
)

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
