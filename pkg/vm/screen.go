// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// Video is a machine's video device.
type Video string

// Video devices.
const (
	// VideoNone is none: the console is serial.
	VideoNone Video = "none"
	// VideoVGA is what every firmware and guest can show something on.
	VideoVGA Video = "vga"
)

// Why there is nothing to see. Both are FailedPrecondition.
var (
	ErrNoVideo = fmt.Errorf("the machine has no video device: %w", errdefs.ErrFailedPrecondition)
	ErrNoVNC   = fmt.Errorf("the machine has no VNC server: %w", errdefs.ErrFailedPrecondition)
)

// Picture is what a screen shows.
type Picture struct {
	// PNG is a file of that format, of at most MaxPicture bytes.
	PNG           []byte
	Width, Height int
}

// MaxPicture is how many bytes a picture may take, by its pixels or as a file: one message has room for it.
const MaxPicture = 15 << 20
