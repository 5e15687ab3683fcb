// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// SeedEnv gives a test that draws lots the seed of an earlier run.
const SeedEnv = "VMLET_TEST_SEED"

// Seed is what a test that draws lots begins with: another one in each run, and told, so that the run can be had again.
func Seed(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano()) % 1e9
	if given := os.Getenv(SeedEnv); given != "" {
		var err error
		if seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatalf("%s: %v", SeedEnv, err)
		}
	}
	t.Logf("%s=%d has this run again", SeedEnv, seed)
	return seed
}
