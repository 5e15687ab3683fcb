// SPDX-License-Identifier: Apache-2.0

package vm

// Firmware is what a machine boots by.
type Firmware string

// Firmwares.
const (
	FirmwareBIOS Firmware = "bios"
	// FirmwareEFI: UEFI, without Secure Boot. What it keeps over a boot, its variables, is in a file beside the root disk.
	FirmwareEFI Firmware = "efi"
)

// FirmwareWith is what boots a machine whose firmware keeps its variables in this file, "" for none.
func FirmwareWith(nvram string) Firmware {
	if nvram == "" {
		return FirmwareBIOS
	}
	return FirmwareEFI
}
