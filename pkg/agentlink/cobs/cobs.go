// SPDX-License-Identifier: Apache-2.0

// Package cobs is Consistent Overhead Byte Stuffing (S. Cheshire, M. Baker, 1999): it writes
// bytes without any zero, for at most one byte more in 254, so that a zero can end a frame
// and a reader that has lost its place finds it again at the next one.
package cobs

import (
	"bytes"
	"errors"
)

// run is the longest stretch without a zero that one code byte stands for.
const run = 254

// ErrMalformed is what Append has never written.
var ErrMalformed = errors.New("malformed COBS frame")

// MaxLen is the most bytes that Append makes of n.
func MaxLen(n int) int { return n + n/run + 1 }

// Append appends src to dst, encoded, without the zero that ends a frame.
func Append(dst, src []byte) []byte {
	for {
		for len(src) > 0 && src[0] == 0 { // where there is one zero there are often many
			dst = append(dst, 1)
			src = src[1:]
		}
		piece := src[:min(len(src), run)]
		zero := bytes.IndexByte(piece, 0)
		switch {
		case zero >= 0:
			dst = append(append(dst, byte(zero+1)), piece[:zero]...)
			src = src[zero+1:]
		case len(piece) < run:
			return append(append(dst, byte(len(piece)+1)), piece...)
		default:
			dst = append(append(dst, run+1), piece...)
			if src = src[run:]; len(src) == 0 {
				return dst
			}
		}
	}
}

// Decode appends to dst what src, a frame without the zero that ends it, was made of. It may
// decode in place, Decode(src[:0], src): it never writes ahead of what it has read.
func Decode(dst, src []byte) ([]byte, error) {
	if len(src) == 0 || bytes.IndexByte(src, 0) >= 0 {
		return dst, ErrMalformed
	}
	for len(src) > 0 {
		for len(src) > 1 && src[0] == 1 { // likewise
			dst = append(dst, 0)
			src = src[1:]
		}
		n := int(src[0])
		if n > len(src) {
			return dst, ErrMalformed
		}
		dst = append(dst, src[1:n]...)
		if src = src[n:]; n <= run && len(src) > 0 {
			dst = append(dst, 0)
		}
	}
	return dst, nil
}
