// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"testing"

	"github.com/opencontainers/cgroups"
)

func TestPageCacheIsNotInTheWayOfALimit(t *testing.T) {
	for name, stats := range map[string]map[string]uint64{
		"v1": {"rss": 1, "total_rss": 3, "total_shmem": 4, "total_cache": 100, "cache": 90, "shmem": 1},
		"v2": {"anon": 3, "shmem": 4, "file": 100},
	} {
		if got := unreclaimable(cgroups.MemoryStats{Stats: stats}); got != 7 {
			t.Errorf("%s: %d", name, got)
		}
	}
}
