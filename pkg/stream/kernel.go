// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"os"

	"golang.org/x/sys/unix"
)

// kernel is what changes files that exist. Tests put one in its place that dies or
// fails in the middle.
type kernel struct {
	writeAt  func(f *os.File, b []byte, at int64) (int, error)
	truncate func(f *os.File, size int64) error
	punch    func(f *os.File, from, to int64) error
}

func realKernel() kernel {
	return kernel{
		writeAt:  func(f *os.File, b []byte, at int64) (int, error) { return f.WriteAt(b, at) },
		truncate: func(f *os.File, size int64) error { return f.Truncate(size) },
		punch: func(f *os.File, from, to int64) error {
			return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, to-from)
		},
	}
}
