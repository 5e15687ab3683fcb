// SPDX-License-Identifier: Apache-2.0

//go:build integration

// Package integration runs scenarios on a real node: libvirt, QEMU guests, CNI plugins, a
// registry, and vmlet as a process. `make integration` builds what it needs and runs it.
package integration

import (
	"testing"

	"github.com/vmlet/vmlet/tests/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
