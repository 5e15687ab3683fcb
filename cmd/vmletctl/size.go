// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// units are powers of 1024, as sizes of disks are counted: the first letter, and what may follow it.
const units = "KMGT"

// byteCount is a flag or an argument that holds a size, such as 10G, 512MiB or 1048576.
type byteCount int64

// String is what the help shows for the default.
func (b *byteCount) String() string {
	if *b == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*b), 10)
}

// Set takes a size.
func (b *byteCount) Set(s string) error {
	digits, unit := s, int64(1)
	for _, suffix := range []string{"iB", "i"} {
		digits = strings.TrimSuffix(digits, suffix)
	}
	if n := len(digits); n > 0 {
		if i := strings.IndexByte(units, digits[n-1]); i >= 0 {
			digits, unit = digits[:n-1], 1<<(10*(i+1))
		} else if digits != s {
			digits = ""
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 || n > math.MaxInt64/unit {
		return fmt.Errorf("%q is no size such as 10G, 512MiB or a number of bytes", s)
	}
	*b = byteCount(n * unit)
	return nil
}

// Type is what the help shows for the value.
func (*byteCount) Type() string { return "SIZE" }
