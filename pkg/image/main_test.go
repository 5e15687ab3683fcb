// SPDX-License-Identifier: Apache-2.0

package image

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails if a pull, however it ended, left a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
