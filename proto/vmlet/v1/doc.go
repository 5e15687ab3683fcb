// SPDX-License-Identifier: Apache-2.0

// Package vmletv1 is the gRPC API vmlet.v1 as Go: what a client of vmlet says beside the
// CRI. vmlet.proto explains it, and all but this file comes from there.
package vmletv1

//go:generate ../../../build/generate.sh
