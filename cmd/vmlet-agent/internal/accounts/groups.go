// SPDX-License-Identifier: Apache-2.0

package accounts

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// setGroups is setgroups(2) for the calling thread alone.
func setGroups(groups []uint32) error {
	//nolint:gosec // the kernel reads as many as it is told of, and there is one at least
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&groups[0])), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
