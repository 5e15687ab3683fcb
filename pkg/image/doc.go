// SPDX-License-Identifier: Apache-2.0

// Package image keeps VM disk images: it pulls them from OCI registries, judges them, and
// stores each disk once, by the digest of its bytes, never to be changed again.
//
// # What is on disk
//
//	images/                     0711
//	|- blobs/                   0711
//	|  `- sha256/               0711
//	|     `- <hex>              0444  a disk, qcow2 or raw, named by its own sha256: what
//	|                                 overlays have as their backing file; immutable
//	|                                 (chattr +i) where the file system can
//	|- records/                 0700
//	|  `- <hex>.json            0600  what is known of that disk: its format and size, its
//	|                                 names, the manifests and layers it came from
//	`- parts/                   0700
//	   `- <random>              0600  a disk that is being received
//
// The folders belong to the daemon's user and nobody else may write in them. QEMU's user
// may walk through blobs/sha256 to a file whose name it was given, and cannot list it.
//
// A disk becomes an image in this order: its bytes are in parts/ and on stable storage,
// it is renamed into blobs/, its record is written (by rename, too). Removal goes the other
// way: first the record, then the disk. So whatever a crash leaves is one of: a part, a
// disk without a record, a leftover of writing a record. [Open] removes all three. A record
// is believed if its disk has the size and the modification time that it had when it was
// hashed; if only the time differs, the disk is hashed again.
//
// # Why the immutable flag
//
// Root is not stopped by 0444, and root is who could do harm: libvirt gives the files of a
// chain to QEMU's user where the domain's XML does not forbid it, and a commit of an
// overlay writes into its base. One changed byte breaks every VM on that base. The flag
// turns such an attempt into EPERM, which libvirt tolerates for ownership. The price: `rm`
// does not work on these files, not even as root, until `chattr -i`. Remove does that by
// itself. Where the file system or the process (CAP_LINUX_IMMUTABLE) cannot, images are
// stored without it.
//
// # Names
//
// A name is a docker reference. What it leaves out is filled in as docker does: the tag
// "latest", the registry "docker.io" and there the namespace "library". A reference with
// tag and digest is one by digest. Names belong to images, not to registries: a tag names
// the image that was last pulled or imported under it, and an image that lost its last
// name stays until it is removed by its ID.
//
// # What is pulled
//
// An image is either an artifact whose single layer is the disk itself, of media type
// application/vnd.vmlet.disk.{qcow2,raw}.v1 with +gzip, +zstd or nothing behind it; or a
// container image in whose merged file system /disk/ holds exactly one file, the disk (the
// containerDisk convention of KubeVirt). Bytes are hashed as they arrive and never held in
// memory as a whole; a dropped connection goes on where it broke off.
package image
