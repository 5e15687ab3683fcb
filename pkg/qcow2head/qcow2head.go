// SPDX-License-Identifier: Apache-2.0

// Package qcow2head judges qcow2 files that came from elsewhere by their headers, before QEMU opens them: whether one
// stands on its own, or would have QEMU open other files.
package qcow2head

import (
	"encoding/binary"
	"fmt"

	"github.com/containerd/errdefs"
)

// Magic begins every qcow2 file.
const Magic = "QFI\xfb"

// Size is how many bytes of a file Check wants to see. A header with its extensions has a few hundred.
const Size = 64 << 10

// sector is what the size of a disk is a multiple of, in bytes.
const sector = 512

// The qcow2 header, as QEMU's docs/interop/qcow2.txt defines it. Numbers are big-endian.
const (
	v2Length = 72  // all of a version 2 header
	v3Length = 104 // the least of a version 3 header

	featureDirty       = 1 << 0
	featureCorrupt     = 1 << 1
	featureDataFile    = 1 << 2
	featureCompression = 1 << 3
	featureExtendedL2  = 1 << 4
	featuresKnown      = featureDirty | featureCorrupt | featureDataFile | featureCompression | featureExtendedL2

	extensionEnd      = 0
	extensionDataFile = 0x44415441
	extensionCrypto   = 0x0537be77
)

// Limits of QEMU 7.2's block/qcow2.h. What lies beyond them QEMU refuses to open.
const (
	minClusterBits    = 9
	maxClusterBits    = 21
	minSubclusterBits = 14 // extended L2 entries divide a cluster by 32
	maxRefcountOrder  = 6
	maxL1Bytes        = 32 << 20
	maxRefcountBytes  = 8 << 20
	maxSnapshots      = 65536
)

type header struct {
	head []byte // the file's first Size bytes, or all of it

	version     uint32
	clusterBits uint32
	length      uint32 // of the header
	features    uint64
	virtual     uint64 // size in bytes
}

// Check judges a qcow2 file by its first Size bytes (or all, if it has fewer): whether it stands on its own, needs
// nothing that QEMU does not have, and whether its tables lie within its size bytes. A
// negative size is one not known yet. It returns the virtual size. FailedPrecondition, with the reason, for one that
// is refused.
func Check(head []byte, size int64) (virtual int64, err error) {
	q, err := parse(head)
	if err != nil {
		return 0, err
	}
	for _, check := range []func() error{q.selfContained, q.known, q.sane, q.extensions} {
		if err := check(); err != nil {
			return 0, err
		}
	}
	if size >= 0 {
		if err := q.within(uint64(size)); err != nil {
			return 0, err
		}
	}
	return int64(q.virtual), nil
}

func parse(head []byte) (*header, error) {
	if len(head) < v2Length {
		return nil, refused("a qcow2 file of %d bytes ends within its header", len(head))
	}
	q := &header{head: head, version: be32(head, 4), clusterBits: be32(head, 20), virtual: be64(head, 24), length: v2Length}
	switch q.version {
	case 2:
		return q, nil
	case 3:
	default:
		return nil, refused("qcow2 version %d: QEMU knows 2 and 3", q.version)
	}
	if len(head) < v3Length {
		return nil, refused("a qcow2 file of %d bytes ends within its header", len(head))
	}
	q.features, q.length = be64(head, 72), be32(head, 100)
	if q.length < v3Length || int64(q.length) > int64(len(head)) {
		return nil, refused("qcow2 header length %d", q.length)
	}
	return q, nil
}

// selfContained refuses what makes QEMU open other files or ask for keys.
func (q *header) selfContained() error {
	switch {
	case be64(q.head, 8) != 0 || be32(q.head, 16) != 0:
		return refused("the qcow2 file has a backing file; a disk must stand on its own (flatten it: qemu-img convert -O qcow2)")
	case q.features&featureDataFile != 0:
		return refused("the qcow2 file keeps its data in another file (flatten it: qemu-img convert -O qcow2)")
	case be32(q.head, 32) != 0:
		return refused("the qcow2 file is encrypted")
	}
	return nil
}

// known refuses what QEMU does not have, and what needs repair.
func (q *header) known() error {
	switch {
	case q.features&^featuresKnown != 0:
		return refused("the qcow2 file needs unknown features (bits %#x)", q.features&^featuresKnown)
	case q.features&featureCorrupt != 0:
		return refused("the qcow2 file is marked as corrupt (qemu-img check -r all)")
	case q.features&featureDirty != 0:
		return refused("the qcow2 file was not closed properly (qemu-img check -r all)")
	}
	var compression byte
	if q.length > v3Length {
		compression = q.head[v3Length]
	}
	if compression > 1 || (compression != 0) != (q.features&featureCompression != 0) {
		return refused("qcow2 compression type %d", compression)
	}
	return nil
}

// sane refuses numbers that no tool writes and QEMU would refuse.
func (q *header) sane() error {
	if q.clusterBits < minClusterBits || q.clusterBits > maxClusterBits {
		return refused("qcow2 cluster size 2^%d", q.clusterBits)
	}
	if q.features&featureExtendedL2 != 0 && q.clusterBits < minSubclusterBits {
		return refused("qcow2 cluster size 2^%d with subclusters", q.clusterBits)
	}
	if q.version == 3 && be32(q.head, 96) > maxRefcountOrder {
		return refused("qcow2 refcount order %d", be32(q.head, 96))
	}
	if int64(q.virtual) <= 0 || q.virtual%sector != 0 {
		return refused("qcow2 virtual size of %d bytes", q.virtual)
	}
	cluster, l2Entry := uint64(1)<<q.clusterBits, uint64(8)
	if q.features&featureExtendedL2 != 0 {
		l2Entry = 16
	}
	perL1Entry := cluster / l2Entry * cluster
	l1, need := uint64(be32(q.head, 36)), (q.virtual-1)/perL1Entry+1
	if l1*8 > maxL1Bytes || l1 < need {
		return refused("a qcow2 table of %d entries for %d bytes (%d are needed)", l1, q.virtual, need)
	}
	if refcounts := uint64(be32(q.head, 56)); refcounts == 0 || refcounts*cluster > maxRefcountBytes {
		return refused("a qcow2 refcount table of %d clusters", refcounts)
	}
	if n := be32(q.head, 60); n > maxSnapshots {
		return refused("%d qcow2 snapshots", n)
	}
	return nil
}

// extensions walks what follows the header, within the first cluster.
func (q *header) extensions() error {
	end := uint64(min(1<<q.clusterBits, len(q.head)))
	for at := uint64(q.length); at+8 <= end; {
		kind, length := be32(q.head, int(at)), uint64(be32(q.head, int(at)+4))
		at += 8
		switch {
		case kind == extensionEnd:
			return nil
		case length > end-at:
			return refused("a qcow2 header extension %#x of %d bytes is longer than what holds it", kind, length)
		case kind == extensionDataFile:
			return refused("the qcow2 file names another file for its data")
		case kind == extensionCrypto:
			return refused("the qcow2 file is encrypted")
		}
		at += (length + 7) &^ 7
	}
	return nil
}

// within refuses tables that lie outside the file.
func (q *header) within(size uint64) error {
	cluster := uint64(1) << q.clusterBits
	for _, table := range []struct {
		what          string
		offset, bytes uint64
		aligned       bool
	}{
		{"L1", be64(q.head, 40), uint64(be32(q.head, 36)) * 8, true},
		// Its last cluster may be cut short where nothing of it is used.
		{"refcount", be64(q.head, 48), 8, true},
		// Each has more than 40 bytes; their names and extra data make them longer.
		{"snapshot", be64(q.head, 64), uint64(be32(q.head, 60)) * 40, false},
	} {
		if table.bytes == 0 {
			continue
		}
		if table.offset < uint64(q.length) || table.offset > size || table.bytes > size-table.offset {
			return refused("the %s table of the qcow2 file (%d bytes at %d) lies outside of it: it has %d bytes, and may have been cut", table.what, table.bytes, table.offset, size)
		}
		if table.aligned && table.offset%cluster != 0 {
			return refused("the %s table of the qcow2 file at %d is not aligned", table.what, table.offset)
		}
	}
	return nil
}

func be32(b []byte, at int) uint32 { return binary.BigEndian.Uint32(b[at:]) }
func be64(b []byte, at int) uint64 { return binary.BigEndian.Uint64(b[at:]) }

func refused(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrFailedPrecondition)...)
}
