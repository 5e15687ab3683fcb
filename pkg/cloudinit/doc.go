// SPDX-License-Identifier: Apache-2.0

// Package cloudinit writes what cloud-init reads in a guest: the files of its NoCloud
// data source, and the ISO image that carries them.
//
// Sources: cloud-init's pages "NoCloud" (docs.cloud-init.io, reference/datasources/nocloud)
// and "Networking config version 2" (reference/network-config-format-v2); what its
// renderers make of them was tried with cloud-init 22.4.2 and netplan 0.106.
package cloudinit
