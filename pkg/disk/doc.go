// SPDX-License-Identifier: Apache-2.0

// Package disk makes and removes the files of sandboxes: root disks, data disks,
// seeds, console spools; and root disks that belong to no sandbox.
//
// # What is on disk
//
//	sandboxes/                        0711  root:root
//	`- <sandbox ID>/                  0710  root:GROUP
//	   |- root-<name>-<image>.qcow2   0600  USER:GROUP  overlay on an image; the guest's data
//	   |- root-<container>.qcow2      0600  USER:GROUP  the same, of one container alone
//	   |- root-<...>.nvram            0600  USER:GROUP  what UEFI keeps with a root disk; libvirt's, or a copy of ours
//	   |- data-<disk>.qcow2           0600  USER:GROUP  a data disk by size; the guest's data
//	   |- seed.iso                    0640  root:GROUP  holds secrets
//	   |- console-<container>.spool   0600  USER:GROUP  QEMU appends, vmlet takes away
//	   |- console-<container>.checkpoint  0600  root:root  how far; pkg/stream's
//	   `- .<file>.part                0600  a file that is being made; gone after a crash
//	                                        with the next try, or with the sandbox
//	disks/                            0711  root:root
//	`- <disk ID>/                     0710  root:GROUP
//	   |- root.qcow2                  0600  USER:GROUP  a persistent root disk, or the lowest layer under one
//	   |- root-layer-LID.qcow2        0600  USER:GROUP  one, or a layer under it, that a snapshot was taken of
//	   `- root<...>.nvram             0600  USER:GROUP  what UEFI keeps with either
//
// USER and GROUP are those that QEMU runs as, root is the user of the daemon.
//
// QEMU may walk to the files of a sandbox or disk whose name it was given, and list nothing:
// IDs are random, so one QEMU that was taken over does not find the disks of another by
// looking around. It may write to its disk and its spool, only read its seed, and never
// make, rename or remove a file, so that no symlink can be put where the daemon, as root,
// will open a file. libvirt's dynamic ownership may be on or off: with it, libvirt gives
// files to QEMU's user at each start and back afterwards; without it, QEMU has what it
// needs already.
//
// # Rules
//
// A file appears whole, by a rename, after it is on stable storage. Every path that is
// given must be that of a file in the folder of a sandbox or of a disk; what is in between
// is opened step by step below the folder of all of them (os.Root), so nothing leads out of
// it.
//
// What callers bring (source.go) is looked at and never changed. Checkpoints are in folders of callers, too (checkpoint.go):
//
//	<folder>/            0700  root:root   made as .<folder>.part beside it, unless it was there
//	|- manifest.json     0600  root:root   written last
//	|- memory.save       0600  root:root   with all secrets of the guest
//	|- root.qcow2        0600  root:root   the root disk without its image
//	|- root.nvram        0600  root:root   what UEFI keeps, of a machine that boots by it
//	`- data-<place>.qcow2  0600  root:root  a data disk that is ours, whole; <place> such as vdc
package disk
