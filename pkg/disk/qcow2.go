// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
)

// Where a qcow2 header has what we read of it (QEMU's docs/interop/qcow2.txt). All numbers
// are big-endian.
const (
	qcow2Magic      = "QFI\xfb"
	qcow2VersionAt  = 4
	qcow2SizeAt     = 24
	qcow2FeaturesAt = 72 // incompatible features, from version 3 on
	qcow2HeaderSize = 80

	// qcow2DataFile is the feature of a disk whose data is in a file of another name.
	qcow2DataFile = 1 << 2
)

// qcow2Header is what we read of a header.
type qcow2Header struct {
	// size is what a guest sees, in bytes.
	size     int64
	features uint64
}

// readHeader reads the beginning of a file. FailedPrecondition: it is no qcow2.
func readHeader(r io.Reader) (qcow2Header, error) {
	var b [qcow2HeaderSize]byte
	// Version 2 ends before the features, and may be all of a file that is no disk.
	n, err := io.ReadFull(r, b[:])
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return qcow2Header{}, err
	}
	if n < qcow2FeaturesAt || string(b[:len(qcow2Magic)]) != qcow2Magic {
		return qcow2Header{}, fmt.Errorf("it is no qcow2 file: %w", errdefs.ErrFailedPrecondition)
	}
	head := qcow2Header{size: int64(binary.BigEndian.Uint64(b[qcow2SizeAt:]))}
	if binary.BigEndian.Uint32(b[qcow2VersionAt:]) > 2 {
		head.features = binary.BigEndian.Uint64(b[qcow2FeaturesAt:])
	}
	return head, nil
}
