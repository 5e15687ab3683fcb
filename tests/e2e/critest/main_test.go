// SPDX-License-Identifier: Apache-2.0

//go:build integration

// Package critest runs cri-tools' validation suite against a real node. Which of its specs
// must pass is in passing.txt, which cannot yet, and why, in not-yet.txt.
package critest

import (
	"testing"

	"github.com/vmlet/vmlet/tests/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
