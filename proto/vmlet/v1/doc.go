// SPDX-License-Identifier: Apache-2.0

// Package vmletv1 is the gRPC API vmlet.v1 as Go: what a client of vmlet says beside the
// CRI. All but this file is generated from vmlet.proto, where it is explained.
package vmletv1

//go:generate ../../../build/generate.sh
