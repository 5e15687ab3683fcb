// SPDX-License-Identifier: Apache-2.0

package image

import (
	"os"
	"path/filepath"
	"strings"
)

// layout names every file and folder of the store; the package comment draws it.
type layout string

// idPrefix begins every image ID. The store knows no other digest algorithm for disks.
const idPrefix = "sha256:"

const recordSuffix = ".json"

// Modes of what is stored: QEMU's user may walk to a blob and read it, and no more.
const (
	walkMode    os.FileMode = 0o711
	privateMode os.FileMode = 0o700
	blobMode    os.FileMode = 0o444
	recordMode  os.FileMode = 0o600
)

func (l layout) blobRoot() string { return filepath.Join(string(l), "blobs") }

// blobs is the folder of all disks.
func (l layout) blobs() string { return filepath.Join(l.blobRoot(), "sha256") }

// blob is the disk of an image.
func (l layout) blob(id string) string {
	return filepath.Join(l.blobs(), strings.TrimPrefix(id, idPrefix))
}

// records is the folder of what is known about the disks.
func (l layout) records() string { return filepath.Join(string(l), "records") }

// record is the file with what is known about one image.
func (l layout) record(id string) string {
	return filepath.Join(l.records(), strings.TrimPrefix(id, idPrefix)+recordSuffix)
}

// parts is the folder of disks that are being received.
func (l layout) parts() string { return filepath.Join(string(l), "parts") }

// idOfBlob is the image ID that a file in blobs() stands for.
func idOfBlob(file string) (id string, ok bool) {
	return idPrefix + file, isHex(file) && len(file) == 64
}

// idOfRecord is the image ID that a file in records() stands for.
func idOfRecord(file string) (id string, ok bool) {
	hexDigest, found := strings.CutSuffix(file, recordSuffix)
	if !found {
		return "", false
	}
	return idOfBlob(hexDigest)
}

func isHex(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return s != ""
}
