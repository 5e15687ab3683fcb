// SPDX-License-Identifier: Apache-2.0

//go:build integration

// Package kubelet runs VM pods under a real kubelet without an API server: static pods, and kubelet's own server.
package kubelet

import (
	"testing"

	"github.com/vmlet/vmlet/tests/harness"
)

func TestMain(m *testing.M) { harness.MainWithKubelet(m) }
