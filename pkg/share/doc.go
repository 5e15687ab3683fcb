// SPDX-License-Identifier: Apache-2.0

// Package share makes the host's side of what guests see of host folders and files: one
// tree of bind mounts per sandbox, which its virtiofs device exports.
//
//	<state>/shares/          mounted on itself, shared: libvirtd, which may have a mount
//	                         namespace of its own, and virtiofsd, which has one, see all below
//	<state>/shares/ID/       a tmpfs; read-only once the tree is whole, and only then
//	<state>/shares/ID/0-...  a mount, a recursive bind of one host folder or file
//
// What a guest asks virtiofsd for is resolved below ID. The tmpfs is read-only there, so
// that a guest can make nothing outside of what was shared. A read-only mount is so in the
// host's kernel, whatever the guest's root does; what is mounted below it is so only where
// the mount is recursively read-only (CRI Mount.recursive_read_only).
//
// Nothing here is ever removed but empty folders: what was mounted is unmounted, the tmpfs
// takes the mount points with it, and a folder that is no mount point is removed only by
// rmdir(2), which refuses one that has anything in it.
//
// Propagation: a mount gets nothing from the host, unless it is HostToGuest: then what is
// mounted below the host path later appears in the share too (mount_namespaces(7), slave),
// as writable as it is on the host. Nothing that the guest does comes back as a mount.
package share
