// SPDX-License-Identifier: Apache-2.0

//go:build !failpoints

// Package failpoint marks the places where a crash must be survived. Without the
// build tag `failpoints` a mark is an empty function.
package failpoint

// Hit does nothing in this build.
func Hit(string) {}
