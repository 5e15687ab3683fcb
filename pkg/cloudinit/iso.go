// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/kdomanski/iso9660"
)

// volumeLabel is how cloud-init recognises a NoCloud seed.
const volumeLabel = "cidata"

// Places in an ISO 9660 image, in bytes (ECMA-119 8.4, 8.4.26.1, 9.1, 9.1.5).
const (
	isoSector = 2048
	// The primary volume descriptor follows 16 unused sectors.
	isoDescriptor = 16 * isoSector
	isoRootRecord = isoDescriptor + 156
	// The volume's dates: created, modified, expires, effective.
	isoDates, isoDateCount = isoDescriptor + 813, 4
	// The date in a directory record.
	isoRecordDate = 18
)

const (
	// isoNoDate is a date of the volume that is not specified: 16 digits and a number.
	isoNoDate = "0000000000000000\x00"
	// isoLeast is the least size of an image. busybox's findfs and blkid see no label on
	// what is smaller than 68 KiB.
	isoLeast = 128 << 10
	// isoEpoch is 1970-01-01 00:00:00 UTC in a directory record, the year less 1900 first.
	// Not specified, all zero, would be November 1899 to Linux.
	isoEpoch = "\x46\x01\x01\x00\x00\x00\x00"
)

// ISO returns an ISO 9660 image with the files, labelled cidata. Equal files give equal
// bytes. The names have no Rock Ridge or Joliet form; Linux shows them as they are here.
//
// The library stages files in os.TempDir, where a crash would leave them behind, and
// user-data is secret. So it lays out zeros, and the contents take their place in memory.
func ISO(f Files) (_ []byte, err error) {
	contents := map[string][]byte{
		"meta-data;1":      f.MetaData,
		"user-data;1":      f.UserData,
		"network-config;1": f.NetworkConfig,
	}
	if len(f.VendorData) > 0 {
		contents["vendor-data;1"] = f.VendorData
	}
	if len(f.Agent) > 0 {
		contents["vmlet-agent;1"] = f.Agent
	}
	w, err := iso9660.NewWriter()
	if err != nil {
		return nil, fmt.Errorf("seed ISO: %w", err)
	}
	defer func() { err = errors.Join(err, w.Cleanup()) }()
	for name, content := range contents {
		if err := w.AddFile(bytes.NewReader(make([]byte, len(content))), strings.TrimSuffix(name, ";1")); err != nil {
			return nil, fmt.Errorf("seed ISO: stage %s: %w", name, err)
		}
	}
	var out bytes.Buffer
	if err := w.WriteTo(&out, volumeLabel); err != nil {
		return nil, fmt.Errorf("seed ISO: %w", err)
	}
	iso := out.Bytes()
	if err := fill(iso, contents); err != nil {
		return nil, fmt.Errorf("seed ISO: %w", err)
	}
	return append(iso, make([]byte, max(0, isoLeast-len(iso)))...), nil
}

// fill copies the contents into the extents of the files in the root directory, and takes
// the library's dates out, which are those of the call.
func fill(iso []byte, contents map[string][]byte) error {
	copy(iso[isoDates:], strings.Repeat(isoNoDate, isoDateCount))
	root, err := readRecord(iso, isoRootRecord)
	if err != nil {
		return err
	}
	copy(iso[isoRootRecord+isoRecordDate:], isoEpoch)
	filled := 0
	// Five short records: the directory is one sector.
	for at := int(root.ExtentLocation) * isoSector; iso[at] != 0; at += int(iso[at]) {
		record, err := readRecord(iso, at)
		if err != nil {
			return err
		}
		copy(iso[at+isoRecordDate:], isoEpoch)
		content, ok := contents[record.Identifier]
		if !ok {
			continue // the directory itself and its parent
		}
		if int(record.ExtentLength) != len(content) {
			return fmt.Errorf("%s has %d bytes of %d", record.Identifier, record.ExtentLength, len(content))
		}
		copy(iso[int(record.ExtentLocation)*isoSector:], content)
		filled++
	}
	if filled != len(contents) {
		return fmt.Errorf("%d of %d files have a record", filled, len(contents))
	}
	return nil
}

func readRecord(iso []byte, at int) (iso9660.DirectoryEntry, error) {
	var record iso9660.DirectoryEntry
	if err := record.UnmarshalBinary(iso[at:]); err != nil {
		return record, fmt.Errorf("directory record at %d: %w", at, err)
	}
	return record, nil
}
