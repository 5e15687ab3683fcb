// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"errors"
	"io"
	"path"
	"strings"
)

// diskFolder is where a container image has its VM disk: the containerDisk convention of
// KubeVirt (docs/disks_and_volumes: "the disk must be placed in the /disk directory").
const diskFolder = "/disk"

// Marks of deleted files in layers, as the OCI image specification has them (layer.md,
// "Whiteouts").
const (
	whiteout       = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// diskFinder looks for the one file that /disk holds in the merged file system of several
// layers, which it is shown from the highest to the lowest. It is for one goroutine.
type diskFinder struct {
	// open begins the part that the disk goes to.
	open func() (*part, error)

	found *part
	name  string
	// hidden are the files in /disk that a higher layer has replaced or deleted; all is
	// set when a higher layer has none of what is below it.
	hidden map[string]bool
	all    bool
}

// layer reads one layer, an unpacked tar archive. On an error it leaves found to the
// caller, too.
func (d *diskFinder) layer(r io.Reader) error {
	// What this layer hides are the files of lower ones, not its own.
	hides := map[string]bool{}
	hidesAll := false
	archive := tar.NewReader(r)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return unpackError("tar", err)
		}
		full := path.Clean("/" + header.Name)
		folder, file := path.Split(full)
		switch {
		case full == "/"+whiteout+diskFolder[1:], full == diskFolder+"/"+whiteoutOpaque:
			hidesAll = true
		case full == diskFolder && header.Typeflag != tar.TypeDir:
			return refused("%s is not a folder", diskFolder)
		case folder != diskFolder+"/":
		case strings.HasPrefix(file, whiteout):
			hides[strings.TrimPrefix(file, whiteout)] = true
		default:
			hides[file] = true
			if err := d.file(header, file, archive); err != nil {
				return err
			}
		}
	}
	for file := range hides {
		if d.hidden == nil {
			d.hidden = map[string]bool{}
		}
		d.hidden[file] = true
	}
	d.all = d.all || hidesAll
	// Padding, so that the layer is hashed to its end.
	_, err := io.Copy(io.Discard, r)
	return err
}

// file takes one entry of /disk.
func (d *diskFinder) file(header *tar.Header, name string, content io.Reader) error {
	switch {
	case d.all || d.hidden[name]:
		return nil
	case header.Typeflag != tar.TypeReg:
		return refused("%s/%s is not a file", diskFolder, name)
	case d.found != nil:
		return refused("%s holds several files (%s, %s); it must be one, the disk", diskFolder, d.name, name)
	}
	p, err := d.open()
	if err != nil {
		return err
	}
	d.found, d.name = p, name
	_, err = io.CopyBuffer(p, content, make([]byte, aheadChunk))
	return unpackError("tar", err)
}
