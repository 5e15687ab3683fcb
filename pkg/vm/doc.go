// SPDX-License-Identifier: Apache-2.0

// Package vm holds the words of vmlet as types: sandboxes, containers, machines,
// images, networks, and the states they go through with the guards between them.
//
// Every other package speaks in these types. The package imports nothing but the
// standard library and errdefs, knows no wire format, no libvirt and no file system.
//
// Values are immutable once stored: whoever changes a record copies it, and never
// writes into a map or slice that came out of one. That is what lets readers share
// records without locks.
package vm
