// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/containerd/errdefs"
)

// storageError gives an error of the file system its class: ResourceExhausted if there is
// no room.
func storageError(err error) error {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(err, full) {
			return fmt.Errorf("no room left for images: %w: %w", err, errdefs.ErrResourceExhausted)
		}
	}
	return err
}

// allocated is what a file takes on its file system, in bytes.
func allocated(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512 // stat(2): always units of 512, whatever the file system's block
	}
	return info.Size()
}
