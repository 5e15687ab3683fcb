// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"math"
	"slices"
	"time"
)

// samples are measured values of one unit.
type samples []float64 //nolint:recvcheck // add grows it, at only reads

// add appends a time in milliseconds.
func (s *samples) add(d time.Duration) { *s = append(*s, milliseconds(d)) }

// at returns the smallest value that the share q of all samples do not exceed (the
// nearest-rank quantile): always a value that was measured. NaN without samples.
func (s samples) at(q float64) float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
