// SPDX-License-Identifier: Apache-2.0

// Package version holds what the build stamped into the binary.
package version

// Version and Commit are set by the linker; a plain `go build` leaves the defaults.
var (
	Version = "0.0.0-dev"
	Commit  = "unknown"
)
