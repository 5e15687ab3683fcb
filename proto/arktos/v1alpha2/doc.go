// SPDX-License-Identifier: Apache-2.0

// Package arktosv1alpha2 is the CRI of the Arktos node agent, runtime.v1alpha2, as Go. api.proto explains it, and all but this
// file comes from there.
package arktosv1alpha2

//go:generate ../../../build/generate.sh
